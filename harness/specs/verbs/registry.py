"""The verbs of a spec by name. Imports no torch, and a verb's module only when its parser is wanted.

A verb is two files: `specs/verbs/NAME.py` with its keys, its claim and its parser, which is named here, and
`judging/verbs/NAME.py` with its `VERB` (see :mod:`harness.judging.verb`).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from harness.specs.parsing import ClaimParser

VERBS: dict[str, str] = {
    "ablate": "harness.specs.verbs.ablate:AblateParser",
    "keep": "harness.specs.verbs.keep:KeepParser",
    "patch": "harness.specs.verbs.patch:PatchParser",
    "answer": "harness.specs.verbs.answer:AnswerParser",
    "attend": "harness.specs.verbs.attend:AttendParser",
    "learn": "harness.specs.verbs.learn:LearnParser",
}


@cache
def parser_of(verb: str) -> type[ClaimParser]:
    """Return the parser of the verb that is called so."""
    module, _, name = VERBS[verb].partition(":")
    found: type[ClaimParser] = getattr(import_module(module), name)
    return found


def verb_of(claim: object) -> str:
    """Return the verb of a claim that is not validated yet; the first of all verbs if it has none."""
    present = [verb for verb in VERBS if isinstance(claim, dict) and verb in claim]
    return present[0] if present else next(iter(VERBS))
