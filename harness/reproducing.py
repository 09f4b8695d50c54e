"""``harness reproduce``: train fixtures anew by their recipes, elsewhere, and say whether the same weights come out.

torch promises the same bits only within one build and one kind of processor; on another machine the weights may
differ and the accuracy should not. Nothing below ``fixtures/`` is changed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import FixtureError, HarnessError, Problem, did_you_mean
from harness.fixtures import read_weights
from harness.intervals import shared_confidence
from harness.making import train_fixture
from harness.pins import Pin, read_pin
from harness.places import PIN, RECIPE, WEIGHTS, list_fixtures, recipe_of
from harness.recipe import BroughtRecipe


@dataclass(frozen=True)
class Reproduced:
    """What came of training one fixture again."""

    pinned: Pin
    again: Pin

    @property
    def same_bits(self) -> bool:
        """Whether the weights are the pinned ones, bit by bit."""
        return self.pinned.weights_sha256 == self.again.weights_sha256

    @property
    def same_accuracy(self) -> bool:
        """Whether of no kind of questions, nor of all together, the shares of right answers differ by more than chance.

        By Fisher's exact test; where both are equally accurate all tests together say otherwise in one case of a
        hundred at most.
        """
        import numpy as np
        from scipy.stats import fisher_exact

        counts = np.array([[(m.right, m.n - m.right) for m in pin.measured] for pin in (self.pinned, self.again)])
        tables = [*counts.swapaxes(0, 1), counts.sum(1)]  # of weights × right or wrong
        return all(float(fisher_exact(table).pvalue) > 1 - shared_confidence(len(tables)) for table in tables)

    def row(self) -> tuple[str, ...]:
        """Return what is shown of it."""
        assert self.again.trained is not None
        word = "bit-identical" if self.same_bits else "equal in accuracy" if self.same_accuracy else "different"
        right = ", ".join(f"{sum(m.right for m in pin.measured):,}" for pin in (self.pinned, self.again))
        right += f" of {sum(m.n for m in self.pinned.measured):,}"
        return self.pinned.name, word, right, f"{self.again.trained.seconds:.0f} s"


def trained_here(names: Sequence[str], fixtures: Path) -> list[str]:
    """Return the fixtures with weights from `harness train` that the names and globs in `names` stand for.

    Raises:
        HarnessError: a name that no such fixture has.
    """
    known = [
        name
        for name in list_fixtures(fixtures)
        if (fixtures / name / PIN).exists() and read_pin(name, fixtures).trained is not None
    ]
    for name in names:
        if not any(fnmatchcase(other, name) for other in known):
            fix = did_you_mean(name, known) if known else "train one: harness train --help"
            raise HarnessError.of(f"a fixture trained here, in {fixtures}", name, fix)
    return [other for other in known if any(fnmatchcase(other, name) for name in names)]


def reproduce(names: Sequence[str], fixtures: Path, device: str = "auto") -> Iterator[Reproduced]:
    """Train each of the fixtures in `names` in a directory of its own, and yield what came of it.

    Raises:
        HarnessError: no such fixture or device.
        FixtureError: weights of another recipe, or no room to train in.
    """
    for name in names:
        pinned, recipe = read_pin(name, fixtures), recipe_of(name, fixtures)
        read_weights(fixtures / name / WEIGHTS, pinned, recipe)  # refuses stale and altered ones
        try:
            with tempfile.TemporaryDirectory() as elsewhere:
                directory = Path(elsewhere, name)
                directory.mkdir()
                shutil.copyfile(fixtures / name / RECIPE, directory / RECIPE)
                if isinstance(recipe, BroughtRecipe):  # whose code is sought where the recipe lies
                    for place in (fixtures / name, fixtures):
                        for code in place.glob("*.py"):
                            shutil.copyfile(code, Path(elsewhere) / code.relative_to(fixtures))
                again = train_fixture(name, Path(elsewhere), device=device).pin
        except OSError as error:
            problem = Problem("a place to train in", error.strerror or str(error), "set TMPDIR", name)
            raise FixtureError(problem) from None
        assert again is not None  # it was not told to stop early
        yield Reproduced(pinned, again)
