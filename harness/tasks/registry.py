"""The families of tasks, by the name that a recipe gives. Imports no torch.

A family is a module's object, written as text, and imported when it is first asked for. To add one, write it in a
folder of its own, and add its line here.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module

from harness.base.own_code import REFERENCE
from harness.tasks.family import ShippedFamily, TaskFamily
from harness.tasks.own_tasks import OWN

FAMILIES: dict[str, str] = {"addition": "harness.tasks.addition.family:FAMILY"}


@cache
def shipped(name: str) -> ShippedFamily:
    """Return a family that ships with the harness."""
    module, _, attribute = FAMILIES[name].partition(":")
    found = getattr(import_module(module), attribute)
    assert isinstance(found, ShippedFamily)
    return found


def every_shipped() -> tuple[ShippedFamily, ...]:
    """Return all families that ship with the harness."""
    return tuple(map(shipped, FAMILIES))


def family_of(task: object) -> TaskFamily | None:
    """Return the family that the `task` of a recipe belongs to; None if there is no such task."""
    if isinstance(task, str) and task in FAMILIES:
        return shipped(task)
    return OWN if isinstance(task, str) and re.fullmatch(REFERENCE, task) else None
