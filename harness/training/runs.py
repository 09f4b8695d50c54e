"""``harness train``: train a fixture from its recipe, one process at a time. A killed run can be resumed."""

from __future__ import annotations

import hashlib
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from filelock import Timeout
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor
from tqdm import tqdm

from harness import __version__
from harness.base.errors import FixtureError, HarnessError, Problem
from harness.base.files import remove_parts, write_together
from harness.models.bridge import device_name, resolve_device
from harness.models.fixtures import fixture_of, read_weights
from harness.models.storage import lock, replace_fixture_files, serialise, unwritable
from harness.specs.fixtures.files import (
    CARD,
    CHECKPOINT,
    CURVES,
    FIGURES,
    PIN,
    WEIGHTS,
    FixtureRef,
    fixture_directory,
    recipe_of,
)
from harness.specs.fixtures.pins import Pin, Trained, read_pin, recipe_hash
from harness.specs.fixtures.recipe import OwnModel
from harness.training.accuracy import measure_accuracy
from harness.training.card import model_card
from harness.training.curves import Curves, to_csv_gz
from harness.training.loop import Training

CHECKPOINT_EVERY = 200  # steps
LOG_EVERY = 20  # steps
How = Literal["missing", "resume", "fresh"]
Policy = Literal["missing", "never", "always"]


@dataclass(frozen=True)
class TrainingResult:
    """The result of `harness train`: a pinned fixture, or a run that stopped at the requested step (`pin` is None)."""

    pin: Pin | None
    step: int
    already_pinned: bool = False


def train_fixture(
    ref: FixtureRef, *, how: How = "missing", device: str = "auto", until: int | None = None
) -> TrainingResult:
    """Train a fixture by its recipe, from its checkpoint if there is one, and pin the weights.

    If another process trains the same fixture, wait for it. With `until`, stop at that step and leave a checkpoint.

    `how`: ``missing`` trains only a fixture without a pin; ``resume`` requires a checkpoint to continue from;
    ``fresh`` starts from step 0. Weights from an earlier training are replaced only when the new ones are complete.

    Raises:
        HarnessError: there is no such fixture or device, or `until` is more steps than the recipe has.
        FixtureError: the recipe is bad, its weights may not be replaced, or the directory cannot be written.
    """
    directory = fixture_directory(ref)
    recipe = recipe_of(ref)
    if isinstance(recipe.model, OwnModel):
        fix = "pin its weights: harness import --help"
        raise FixtureError(Problem("a recipe to train by", f"the model of {recipe.model.model}", fix, str(directory)))
    if recipe.training is None:
        fix = f"fetch it: harness fetch {ref.name}"
        raise FixtureError(Problem("a recipe to train by", "a reference to a model", fix, str(directory)))
    where, steps = resolve_device(device), recipe.run.steps
    until = steps if until is None else until
    if not 0 < until <= steps:
        raise HarnessError.of(f"--steps from 1 to the recipe's {steps:,}", str(until), "edit the recipe")
    if recipe.hub is not None:
        raise FixtureError(
            Problem(
                "a recipe to train by", "one of published weights", f"harness import hub:{ref.name}", str(directory)
            )
        )
    try:
        with _waiting(directory, ref.name):
            remove_parts(directory)
            if (directory / PIN).exists() and how == "missing":
                pin = read_pin(ref)
                read_weights(directory / WEIGHTS, pin, recipe)  # refuses stale or altered weights
                return TrainingResult(pin, steps, already_pinned=True)
            _refuse_what_was_not_trained_here(ref)
            training = Training(recipe, where)
            if how == "fresh":
                (directory / CHECKPOINT).unlink(missing_ok=True)
            elif (directory / CHECKPOINT).exists():
                _restore(training, directory / CHECKPOINT)
            elif how == "resume":
                problem = Problem("a checkpoint to go on from", "none", "leave out --resume", str(directory))
                raise FixtureError(problem)
            _run(training, until, ref.name, directory)
            if until < steps:
                return TrainingResult(None, training.step)
            pin = _pin(training, ref.name, directory)
            (directory / CHECKPOINT).unlink(missing_ok=True)
            return TrainingResult(pin, training.step)
    except OSError as error:
        raise unwritable(directory, error) from None


def ensure_trained(ref: FixtureRef, policy: Policy, device: str = "auto") -> None:
    """Train a fixture if `policy` asks for it.

    ``missing`` trains a fixture without a pin. ``always`` also trains again what was trained here. ``never`` trains
    nothing. Imported weights, published weights and models that code builds are never trained.

    Raises:
        HarnessError: as :func:`train_fixture`.
    """
    recipe = recipe_of(ref)
    if policy == "never" or recipe.hub is not None or recipe.training is None:
        return
    there = (ref.directory / PIN).exists()
    if not there:
        train_fixture(ref, device=device)
    elif policy == "always" and read_pin(ref).trained is not None:
        train_fixture(ref, how="fresh", device=device)


def _waiting(directory: Path, name: str) -> AbstractContextManager[object]:
    """Acquire and return the fixture's lock; print a message if it has to wait for another process."""
    held = lock(directory)
    try:
        return held.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"waiting for another process, which trains {name}", file=sys.stderr or sys.stdout)
        return held.acquire()


def _refuse_what_was_not_trained_here(ref: FixtureRef) -> None:
    directory = ref.directory
    if not any((directory / file).exists() for file in (PIN, CHECKPOINT)) and (directory / WEIGHTS).exists():
        raise FixtureError(Problem(f"no weights without a {PIN}", WEIGHTS, "remove it yourself", str(directory)))
    if not (directory / PIN).exists():
        return
    pin = read_pin(ref)
    if pin.provenance is not None:
        found = f"weights imported from {pin.provenance.source}"
        fix = "they are not written over; copy the recipe to another name"
        raise FixtureError(Problem("weights that were trained here, or none", found, fix, str(ref.directory)))
    weights = directory / WEIGHTS
    if weights.exists() and (other := hashlib.sha256(weights.read_bytes()).hexdigest()) != pin.weights_sha256:
        fix = "they are not written over; remove them yourself"
        raise FixtureError(Problem(f"weights of sha256 {pin.weights_sha256}", f"sha256 {other}", fix, str(weights)))


def _run(training: Training, until: int, name: str, directory: Path) -> None:
    """Train up to the step `until`; save a checkpoint every `CHECKPOINT_EVERY` steps and at the end."""
    log, steps = training.recorder, training.run.steps
    terminal = sys.stderr is not None and sys.stderr.isatty()
    with tqdm(
        total=steps, initial=training.step, desc=name, unit=" steps", file=sys.stderr, dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 30, smoothing=0.05, disable=sys.stderr is None,
    ) as bar:  # fmt: skip
        while training.step < until:
            training.advance()
            bar.update()
            if training.step % LOG_EVERY == 0:
                rows = log.flush()
                loss, right = rows[:, :2].mean(0).tolist()
                bar.set_postfix_str(f"loss {loss:.2g}, {right:.1%} right", refresh=False)
            if training.step % CHECKPOINT_EVERY == 0 or training.step == until:
                _save(training, directory / CHECKPOINT)


def _save(training: Training, path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in training.checkpoint().items()}
    about = {"recipe_sha256": recipe_hash(training.recipe), "state_sha256": _digest(state)}
    write_together({path: safetensors.save(state, about)})  # replaces a link itself, not the file it points to


def _digest(state: dict[str, Tensor]) -> str:
    return hashlib.sha256(safetensors.save(state)).hexdigest()


def _restore(training: Training, path: Path) -> None:
    anew = "start anew with --fresh"
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise FixtureError(Problem("a checkpoint", str(error), anew, str(path))) from None
    if about.get("recipe_sha256") != recipe_hash(training.recipe):
        found = "one of another recipe"
        raise FixtureError(Problem("a checkpoint of the recipe as it is", found, f"restore it, or {anew}", str(path)))
    try:
        if about.get("state_sha256") != _digest(state):
            raise HarnessError.of("the state that was saved", "another", "start anew")
        training.restore(state)
    except HarnessError as error:
        raise FixtureError(Problem("a whole checkpoint", str(error), anew, str(path))) from None


def _pin(training: Training, name: str, directory: Path) -> Pin:
    """Measure the weights of a finished run, write all files of the fixture with its figures, and return the pin."""
    recipe, curves = training.recipe, training.curves()
    weights: dict[str, Tensor] = {key: weight.detach().cpu() for key, weight in training.weights.items()}
    raw = serialise(weights)
    digest = hashlib.sha256(raw).hexdigest()
    fixture = fixture_of(name, recipe, digest, weights, training.device)
    made = to_csv_gz(curves)
    pin = Pin(
        version=1,
        name=name,
        weights_sha256=digest,
        recipe_sha256=recipe_hash(recipe),
        trained=Trained(
            steps=training.step, seconds=round(training.seconds, 1), loss=curves.final("loss"),
            device=device_name(training.device), threads=torch.get_num_threads(), torch=torch.__version__,
            harness=__version__, curves_sha256=hashlib.sha256(made).hexdigest(),
        ),
        measured=measure_accuracy(fixture),
    )  # fmt: skip
    files = {CURVES: made, CARD: model_card(recipe, pin, curves).encode(), WEIGHTS: raw}
    replace_fixture_files(directory, {**files, **_figures(curves)}, pin)
    return pin


def _figures(curves: Curves) -> dict[str, bytes]:
    from harness.training.plots import card_figures, draw

    return {FIGURES.replace("*", figure): draw(curves, figure, "png") for figure in card_figures(curves)}
