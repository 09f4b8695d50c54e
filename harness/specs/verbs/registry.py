"""The verbs of a spec by name. Imports no torch, and a verb's module only when its parser is wanted.

A verb is two files: `specs/verbs/NAME.py` with its keys, its claim and its parser, which is named here, and
`judging/verbs/NAME.py` with its `VERB` (see :mod:`harness.judging.verb`). A verb of two words is a form of the first:
"patch from" is a `patch` that says `from`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from harness.specs.parsing import ClaimParser

VERBS: dict[str, str] = {
    "ablate": "harness.specs.verbs.ablate:AblateParser",
    "keep": "harness.specs.verbs.keep:KeepParser",
    "patch": "harness.specs.verbs.patch:PatchParser",
    "patch from": "harness.specs.verbs.patch_from:PatchFromParser",
    "answer": "harness.specs.verbs.answer:AnswerParser",
    "attend": "harness.specs.verbs.attend:AttendParser",
    "learn": "harness.specs.verbs.learn:LearnParser",
}
KEYS = tuple(verb for verb in VERBS if " " not in verb)


@cache
def parser_of(verb: str) -> type[ClaimParser]:
    """Return the parser of the verb that is called so."""
    module, _, name = VERBS[verb].partition(":")
    found: type[ClaimParser] = getattr(import_module(module), name)
    return found


def verb_of(claim: object) -> str:
    """Return the verb of a claim that is not validated yet; the first of all verbs if it has none."""
    present = [key for key in KEYS if isinstance(claim, dict) and key in claim]
    key = present[0] if present else KEYS[0]
    said = claim[key] if present and isinstance(claim, dict) else None
    words = (f"{key} {word}" for word in said) if isinstance(said, dict) else ()
    return next((verb for verb in words if verb in VERBS), key)


def key_of(verb: str) -> str:
    """Return the key of a spec that says the verb."""
    return verb.partition(" ")[0]
