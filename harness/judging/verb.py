"""What judging asks of a verb; each verb of a spec answers it in a file of its own (``verbs/``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.judging.requests import Request
from harness.judging.verdict import Comparison, Controls, Measured
from harness.specs.claim import Claim

if TYPE_CHECKING:
    from harness.judging.bench import Workbench
    from harness.judging.untested import Untested

C = TypeVar("C", bound=Claim)


@dataclass(frozen=True)
class Mutant:
    """A changed claim and the name of the change, like ``head+1`` or ``drop A4``."""

    kind: str
    claim: Claim


class Verb(ABC, Generic[C]):
    """How claims of one verb are judged. Only :meth:`requests` and :meth:`compare` are needed."""

    @abstractmethod
    def requests(self, claim: C) -> Sequence[Request]:
        """Return what is to be run."""

    @abstractmethod
    def compare(self, claim: C, answers: Sequence[Any]) -> tuple[Measured, tuple[Comparison, ...]]:
        """Return what was measured, and the comparisons behind the verdict; `answers` are those to the requests.

        Raises:
            MeasurementError: what was measured means nothing.
        """

    def untested(self, claim: C, answers: Sequence[Any], bench: Workbench) -> Iterable[Untested]:
        """Return the reasons, if any, why the claim could hold without having been tested.

        Raises:
            HarnessError: what is needed for that cannot be measured.
        """
        return ()

    def engine(self, claim: C, bench: Workbench) -> str:
        """Return what a report calls that which ran the model."""
        return bench.engine_name(claim.refs[0])

    def control_requests(self, claim: C) -> Sequence[Request]:
        """Return what the controls of a claim run, first the ablation that puts values back; empty: no controls."""
        return ()

    def controls(self, claim: C, put_back: int, answers: Sequence[Any]) -> Controls:
        """Return what the controls showed.

        Values were put back on `put_back` prompts, and nothing changed; `answers` are those to all the
        :meth:`control_requests` but the first, each perhaps the error that it came to.
        """
        raise NotImplementedError(f"{claim.verb} has control requests, and does not compare what comes of them")

    def left_out_requests(self, claim: C) -> Sequence[Request]:
        """Return what shows which nodes of a claim can be spared; empty where nothing is to be run."""
        return ()

    def left_out(self, claim: C, answers: Sequence[Any]) -> tuple[Comparison, ...]:
        """Return a row for each node that was left out in its turn, "contradicted" where it can be spared.

        `answers` are those to the :meth:`left_out_requests`, each perhaps the error that it came to.
        """
        return ()

    def without_siblings(self, claim: C) -> C:
        """Return the claim without its condition that it is so only here."""
        return claim

    def mutants(self, claim: C) -> Iterator[Mutant]:
        """Yield the claim changed a little, in each of the ways in which it should no longer hold."""
        yield from ()


@cache
def verb_named(name: str) -> Verb[Any]:
    """Return the verb that is called so: ``VERB`` in ``judging/verbs/NAME.py``."""
    found = import_module(f"harness.judging.verbs.{name.replace(' ', '_')}").VERB
    assert isinstance(found, Verb)
    return found
