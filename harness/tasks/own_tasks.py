"""The family of tasks that users write in Python: the key of a recipe that names one, and its loading.

Imports no torch.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harness.base.errors import FixtureError, Problem
from harness.base.own_code import REFERENCE, load_object
from harness.base.validation import Strict
from harness.tasks.checked_task import CheckedTask
from harness.tasks.contract import AnyTask
from harness.tasks.family import TaskFamily
from harness.tasks.user_task import Task


class OwnTaskKeys(Strict):
    """The key of a recipe for a task of one's own, ``task: mymodule:task``."""

    task: Annotated[str, Field(pattern=REFERENCE, max_length=200)]


class OwnTaskFamily(TaskFamily):
    """Tasks that users write in Python."""

    keys = OwnTaskKeys

    def load(self, keys: Any, directory: Path) -> AnyTask:
        """Return the task, from the code beside the recipe."""
        return load_task(keys.task, directory)

    def references(self, keys: Any) -> tuple[str, ...]:
        """Return the reference to the task."""
        return (keys.task,)


OWN = OwnTaskFamily()


def load_task(reference: str, directory: Path) -> CheckedTask:
    """Return the task that the recipe in `directory` refers to; the same object while its file is unchanged.

    Raises:
        FixtureError: code is not allowed, the file cannot be imported, or the object is not a Task.
    """
    found, file = load_object("task", reference, directory)
    if not isinstance(found, Task):
        seen = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
        fix = "make one: name = MyTask()"
        raise FixtureError(Problem(f"{reference} to be a harness.Task", seen, fix, file))
    return _checked(_Same(found), reference, file)


class _Same:
    """Compares a task by identity, as a cache key: a dataclass with its own equality has no hash."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.task is self.task

    def __hash__(self) -> int:
        return id(self.task)


@lru_cache(maxsize=64)
def _checked(same: _Same, reference: str, file: str) -> CheckedTask:
    return CheckedTask(same.task, reference, file)
