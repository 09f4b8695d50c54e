"""A test harness for claims about the inside of small transformers.

    >>> import harness
    >>> for hypothesis in harness.load_hypotheses("hypotheses/add_d5_l2_h3/part14a.yaml"):
    ...     result = harness.judge(hypothesis)
    ...     print(hypothesis.id, result.verdict)  # doctest: +SKIP

Names are loaded when they are first used: reading specs needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.describing import describe
    from harness.errors import FixtureError, HarnessError, MeasurementError, SpecError
    from harness.evaluate import Result, judge
    from harness.fixtures import Fixture, load_fixture
    from harness.hypothesis import Hypothesis
    from harness.pattern_pictures import attention_figure
    from harness.patterns import attention_maps, mean_map
    from harness.permission import allow_code
    from harness.spec import load_hypotheses
    from harness.task import Task
    from harness.workbench import Workbench

__version__ = "0.1.0"

_HOMES = {
    "FixtureError": "errors", "HarnessError": "errors", "MeasurementError": "errors", "SpecError": "errors",
    "Result": "evaluate", "Workbench": "workbench", "judge": "evaluate", "Fixture": "fixtures",
    "load_fixture": "fixtures", "Hypothesis": "hypothesis", "load_hypotheses": "spec",
    "attention_maps": "patterns", "mean_map": "patterns", "attention_figure": "pattern_pictures",
    "describe": "describing", "Task": "task", "allow_code": "permission",
}  # fmt: skip
__all__ = [
    "Fixture", "FixtureError", "HarnessError", "Hypothesis", "MeasurementError", "Result", "SpecError", "Task",
    "Workbench", "allow_code", "attention_figure", "attention_maps", "describe", "judge", "load_fixture",
    "load_hypotheses", "mean_map",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"harness.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
