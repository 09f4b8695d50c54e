"""What a family of tasks adds to the files that people write: keys of a recipe, keys of a spec. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.base.validation import Strict
from harness.tasks.contract import AnyTask


class NoKeys(Strict):
    """No keys at all."""


class TaskFamily(ABC):
    """Tasks that a recipe describes by the same keys."""

    keys: ClassVar[type[Strict]]  # those of a recipe, beside the keys of the model and of its training
    training: ClassVar[type[Strict]] = NoKeys  # those about the prompts that a model is trained on

    @abstractmethod
    def load(self, keys: Any, directory: Path) -> AnyTask:
        """Return the task that the `keys` of the recipe in `directory` describe.

        Raises:
            FixtureError: the task is code, and that is not allowed, or it is wrong.
        """

    def references(self, keys: Any) -> tuple[str, ...]:
        """Return the references to code in the recipe, like ``mymodule:task``."""
        return ()

    def shares(self, training: Any) -> Mapping[str, float]:
        """Return the shares by which batches of training are enriched; empty if they are not."""
        return {}

    def training_facts(self, training: Any) -> list[tuple[str, str]]:
        """Return rows of a model card about what the model was trained on: heading and text."""
        return []


class ShippedFamily(TaskFamily):
    """A family that ships with the harness: editors and the reference of spec keys know its words."""

    where: ClassVar[type[Strict]]  # the keys of `where`
    sets: ClassVar[tuple[str, ...]]
    cases: ClassVar[tuple[str, ...]]
    spreads: ClassVar[tuple[str, ...]]
    variables: ClassVar[tuple[str, ...]]  # a few, as examples
    role: ClassVar[str]  # one, with its place, as an example
