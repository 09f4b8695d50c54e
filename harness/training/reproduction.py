"""``harness reproduce``: train fixtures again from their recipes, and compare the new weights with the pinned weights.

torch promises the same bits only for the same build on the same kind of processor. On another machine the weights may
differ, but the accuracy should not. Training runs in a temporary directory; nothing below ``fixtures/`` is changed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.intervals import shared_confidence
from harness.base.text import did_you_mean
from harness.models.fixtures import read_weights
from harness.specs.fixtures.files import PIN, RECIPE, WEIGHTS, FixtureRef, list_fixtures, recipe_of
from harness.specs.fixtures.pins import Pin, read_pin
from harness.training.runs import train_fixture


@dataclass(frozen=True)
class Reproduced:
    """The result of training one fixture again: the pinned fixture and the new one."""

    pinned: Pin
    again: Pin

    @property
    def same_bits(self) -> bool:
        """Whether the new weights are bit-identical to the pinned weights."""
        return self.pinned.weights_sha256 == self.again.weights_sha256

    @property
    def same_accuracy(self) -> bool:
        """Whether the shares of right answers agree up to chance, for each kind of question and for all together.

        Uses Fisher's exact test. The tests share one error level: if both are equally accurate, the chance that any
        test says otherwise is at most 1%.
        """
        import numpy as np
        from scipy.stats import fisher_exact

        counts = np.array([[(m.right, m.n - m.right) for m in pin.measured] for pin in (self.pinned, self.again)])
        tables = [*counts.swapaxes(0, 1), counts.sum(1)]  # each table: pinned or new weights × right or wrong
        return all(float(fisher_exact(table).pvalue) > 1 - shared_confidence(len(tables)) for table in tables)

    def row(self) -> tuple[str, ...]:
        """Return the row to show: name, result, right answers, seconds of training."""
        assert self.again.trained is not None
        word = "bit-identical" if self.same_bits else "equal in accuracy" if self.same_accuracy else "different"
        right = ", ".join(f"{sum(m.right for m in pin.measured):,}" for pin in (self.pinned, self.again))
        right += f" of {sum(m.n for m in self.pinned.measured):,}"
        return self.pinned.name, word, right, f"{self.again.trained.seconds:.0f} s"


def trained_here(names: Sequence[str], fixtures: Path) -> list[str]:
    """Return the fixtures that match the names and globs in `names` and have weights from `harness train`.

    Raises:
        HarnessError: a name or glob matches no such fixture.
    """
    known = [
        name
        for name in list_fixtures(fixtures)
        if (fixtures / name / PIN).exists() and read_pin(FixtureRef(name, fixtures)).trained is not None
    ]
    for name in names:
        if not any(fnmatchcase(other, name) for other in known):
            fix = did_you_mean(name, known) if known else "train one: harness train --help"
            raise HarnessError.of(f"a fixture trained here, in {fixtures}", name, fix)
    return [other for other in known if any(fnmatchcase(other, name) for name in names)]


def reproduce(names: Sequence[str], fixtures: Path, device: str = "auto") -> Iterator[Reproduced]:
    """Train each fixture in `names` in its own temporary directory, and yield the result.

    Raises:
        HarnessError: there is no such fixture or device.
        FixtureError: the pinned weights are stale or altered, or there is no place to train in.
    """
    for name in names:
        pinned, recipe = read_pin(FixtureRef(name, fixtures)), recipe_of(FixtureRef(name, fixtures))
        read_weights(fixtures / name / WEIGHTS, pinned, recipe)  # refuses stale or altered weights
        try:
            with tempfile.TemporaryDirectory() as elsewhere:
                directory = Path(elsewhere, name)
                directory.mkdir()
                shutil.copyfile(fixtures / name / RECIPE, directory / RECIPE)
                if recipe.references:  # its code must be near the recipe
                    for place in (fixtures / name, fixtures):
                        for code in place.glob("*.py"):
                            shutil.copyfile(code, Path(elsewhere) / code.relative_to(fixtures))
                again = train_fixture(FixtureRef(name, Path(elsewhere)), device=device).pin
        except OSError as error:
            problem = Problem("a place to train in", error.strerror or str(error), "set TMPDIR", name)
            raise FixtureError(problem) from None
        assert again is not None  # only a run with `until` stops without a pin
        yield Reproduced(pinned, again)
