"""The registry of verbs: the key model and the parser of each. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from harness.specs.keys import ClaimModel
from harness.specs.parsing import ClaimParser
from harness.specs.verbs.ablate import AblateParser, HypothesisModel
from harness.specs.verbs.answer import AnswerModel, AnswerParser
from harness.specs.verbs.attend import AttendModel, AttendParser
from harness.specs.verbs.keep import KeepClaimModel, KeepParser
from harness.specs.verbs.learn import LearnModel, LearnParser
from harness.specs.verbs.patch import PatchModel, PatchParser


class VerbEntry(NamedTuple):
    """The key model and the parser of one verb."""

    model: type[ClaimModel]
    parser: type[ClaimParser]
    names_nodes: bool = True  # then `fixtures` tests the claim on each; other verbs use it as a group


VERBS: dict[str, VerbEntry] = {
    "ablate": VerbEntry(HypothesisModel, AblateParser),
    "keep": VerbEntry(KeepClaimModel, KeepParser),
    "patch": VerbEntry(PatchModel, PatchParser),
    "answer": VerbEntry(AnswerModel, AnswerParser, names_nodes=False),
    "attend": VerbEntry(AttendModel, AttendParser),
    "learn": VerbEntry(LearnModel, LearnParser, names_nodes=False),
}


def verb_of(claim: object) -> str:
    """Return the verb of a raw claim; if it has none, ``ablate``, the first verb."""
    present = [verb for verb in VERBS if isinstance(claim, dict) and verb in claim]
    return present[0] if present else "ablate"
