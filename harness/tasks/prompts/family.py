"""The family of tasks that prompts files define; a reference to a model brings the tokenizer. Imports no torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.base.errors import FixtureError, HarnessError, SpecError
from harness.base.files import once_per_version
from harness.base.text import did_you_mean
from harness.base.validation import Strict
from harness.tasks.family import TaskFamily
from harness.tasks.prompts.definition import Filled, Repeated
from harness.tasks.prompts.filled_task import FilledTask
from harness.tasks.prompts.parsing import read_definition
from harness.tasks.prompts.repeated_task import RepeatedTask
from harness.tasks.prompts.task import PromptsTask
from harness.tasks.prompts.tokens import Tokens

PROMPTS = "prompts"  # the directory of prompts files, beside the fixtures or inside of one


class PromptsKeys(Strict):
    """What a task of prompts needs of the model that is asked."""

    task: str  # the name of the prompts file; empty: none is named
    fixture: str
    tokenizer: str  # its path; the file is there once the model is fetched
    prepend: str
    d_vocab: int


class PromptsFamily(TaskFamily):
    """Tasks that prompts files define."""

    keys = PromptsKeys

    def load(self, keys: Any, directory: Path) -> PromptsTask:
        """Return the task of this name, from the fixture's own directory or from that beside all fixtures.

        Raises:
            HarnessError: no task is named, or there is no such file.
            FixtureError: the file is wrong.
        """
        known = prompts_files(directory)
        if keys.task not in known:
            fix = (
                did_you_mean(keys.task, known) if keys.task and known else "name one of " + (", ".join(known) or "none")
            )
            expected = f"`task: NAME`, a file in {directory.parent / PROMPTS}"
            raise HarnessError.of(expected, keys.task or "none", fix)
        try:
            definition = _definition(known[keys.task])
        except SpecError as error:
            raise FixtureError(*error.problems) from None
        return _task(_Same(definition), keys)


FAMILY = PromptsFamily()


def prompts_files(directory: Path) -> dict[str, Path]:
    """Return the prompts files that a model in `directory` can be asked, by name; its own come first."""
    found: dict[str, Path] = {}
    for root in (directory / PROMPTS, directory.parent / PROMPTS):
        for path in sorted(root.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


_definition = once_per_version(64)(read_definition)


class _Same:
    """Compares a definition by identity: it holds mappings, which have no hash."""

    def __init__(self, definition: Filled | Repeated) -> None:
        self.definition = definition

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.definition is self.definition

    def __hash__(self) -> int:
        return id(self.definition)


@lru_cache(maxsize=64)
def _task(same: _Same, keys: PromptsKeys) -> PromptsTask:
    tokens = _tokens(keys.tokenizer, keys.prepend, keys.fixture)
    kind = FilledTask if isinstance(same.definition, Filled) else RepeatedTask
    return kind(same.definition, tokens, keys.d_vocab)


@lru_cache(maxsize=16)
def _tokens(path: str, prepend: str, fixture: str) -> Tokens:
    return Tokens(Path(path), prepend, fixture)
