"""A test harness for claims about the inside of small transformers.

    >>> import harness
    >>> for hypothesis in harness.load_hypotheses("hypotheses/add_d5_l2_h3/part14a.yaml"):
    ...     result = harness.judge(hypothesis)
    ...     print(hypothesis.id, result.verdict)  # doctest: +SKIP

Names are imported on first use: reading specs needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.base.errors import FixtureError, HarnessError, MeasurementError, SpecError
    from harness.base.own_code import allow_code
    from harness.exploring.attention import attention_maps, mean_map
    from harness.exploring.attention_figures import attention_figure
    from harness.exploring.description import describe
    from harness.judging.bench import Workbench
    from harness.judging.evaluation import judge
    from harness.judging.verdict import Result
    from harness.models.fixtures import Fixture, load_fixture
    from harness.specs.spec_files import load_hypotheses
    from harness.specs.verbs.ablating import Hypothesis
    from harness.tasks.user_task import Task

__version__ = "0.1.0"

_HOMES = {
    "FixtureError": "base.errors", "HarnessError": "base.errors", "MeasurementError": "base.errors",
    "SpecError": "base.errors", "allow_code": "base.own_code", "Task": "tasks.user_task",
    "load_hypotheses": "specs.spec_files", "Hypothesis": "specs.verbs.ablate",
    "Fixture": "models.fixtures", "load_fixture": "models.fixtures",
    "Workbench": "judging.bench", "judge": "judging.evaluation", "Result": "judging.verdict",
    "attention_maps": "exploring.attention", "mean_map": "exploring.attention",
    "attention_figure": "exploring.attention_figures", "describe": "exploring.description",
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
