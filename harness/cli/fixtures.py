"""The commands that make or show fixtures: ``harness train``, ``hash``, ``reproduce``, ``curves`` and ``import``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from harness.base.errors import HarnessError

if TYPE_CHECKING:
    from harness.specs.fixtures.pins import Pin
    from harness.training.runs import How
from harness.cli.options import (
    FAILED,
    INTERRUPTED,
    OK,
    TROUBLE,
    code_option,
    common_options,
    ray_option,
    ref_of,
    refuse_without_all,
)
from harness.specs.fixtures.files import FixtureRef


def add_fixture_commands(commands: Any) -> None:
    """Add the commands that make or show fixtures."""
    command = commands.add_parser("train", help="train a fixture by its recipe; goes on where a killed run stopped")
    command.add_argument("fixture", metavar="NAME", nargs="?")
    command.add_argument("--all", action="store_true", help="every fixture that has a recipe and no weights")
    ray_option(command)
    start = command.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from the checkpoint; an error if there is none")
    start.add_argument("--fresh", action="store_true", help="start anew, and replace what was trained before")
    command.add_argument("--steps", type=int, metavar="N", help="stop at step N, leaving a checkpoint")
    common_options(command)
    command.set_defaults(run=_train)

    command = commands.add_parser("hash", help="the sha256 of recipes, comments aside: the key for a cache of weights")
    command.add_argument(
        "fixture", nargs="*", metavar="NAME",
        help="(default: all that have a recipe and no weights, and are published nowhere)",
    )  # fmt: skip
    command.add_argument("--fixtures", type=Path, default=Path("fixtures"), metavar="DIR")
    command.set_defaults(run=_hash)

    command = commands.add_parser("reproduce", help="train fixtures again, elsewhere: do the same weights come out?")
    command.add_argument("fixture", nargs="+", metavar="NAME", help="or a glob: 'quick_*'")
    common_options(command)
    command.set_defaults(run=_reproduce)

    command = commands.add_parser("curves", help="the learning curves of a fixture as figures and final losses")
    command.add_argument("fixture", metavar="NAME")
    command.add_argument("--out", type=Path, metavar="DIR", help="where figures go (default: reports/curves/NAME)")
    command.add_argument("--format", choices=["png", "svg", "pdf"], action="append", help="repeatable (default: all)")
    command.add_argument("--fixtures", type=Path, default=Path("fixtures"), metavar="DIR")
    code_option(command)
    command.set_defaults(run=_curves)

    command = commands.add_parser("import", help="make a fixture from a checkpoint")
    command.add_argument(
        "checkpoint", help="an old HookedTransformer state dict (.pth), safetensors, or hub:NAME: what its recipe names"
    )
    command.add_argument("--recipe", type=Path, help="of a file")
    command.add_argument("--name", help="of the fixture that the file becomes")
    command.add_argument("--note", default="", help="a sentence for the model card: who trained it, where, when")
    common_options(command)
    command.set_defaults(run=_import)


def _train(options: argparse.Namespace) -> int:
    refuse_without_all(options, "ray")
    if options.all:
        return _train_all(options)
    if options.fixture is None:
        raise HarnessError.of("the NAME of a fixture, or --all", "neither", "add one")
    from harness.training.runs import train_fixture

    how: How = "fresh" if options.fresh else "resume" if options.resume else "missing"
    try:
        made = train_fixture(ref_of(options), how=how, device=options.device, until=options.steps)
    except KeyboardInterrupt:
        print(
            f"\nharness: interrupted; harness train {options.fixture} --resume goes on from the last checkpoint",
            file=sys.stderr,
        )
        return INTERRUPTED
    place = options.fixtures / options.fixture
    if made.pin is None:
        print(f"{place}: stopped at step {made.step:,}; `harness train {options.fixture} --resume` goes on from there")
        return OK
    if made.already_pinned:
        print(f"{place}: has its weights already; --fresh trains new ones")
    _tell(made.pin, place)
    return OK


def _hash(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.files import recipe_of, untrained
    from harness.specs.fixtures.pins import cache_key

    for name in options.fixture or untrained(options.fixtures):
        print(f"{cache_key(recipe_of(FixtureRef(name, options.fixtures)))}  {name}")
    return OK


def _tell(pin: Pin, place: Path, out: TextIO | None = None) -> None:
    print(f"{place}: weights sha256 {pin.weights_sha256}", file=out, flush=True)
    for uniform in pin.measured[:1]:  # a pin written by hand has none
        right = f"{uniform.right} of {uniform.n} uniform questions right"
        print(f"{right}; README.md there has the rest", file=out, flush=True)


def _train_all(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.files import untrained

    if options.fixture or options.resume or options.fresh or options.steps is not None:
        raise HarnessError.of("--all alone", "a NAME, or an option of one, as well", "leave it out")
    names = untrained(options.fixtures)
    if not names:
        print(f"{options.fixtures}: every fixture that has a recipe to train by has its weights")
        return OK
    from harness.cli.cluster import job_runner
    from harness.training.runs import train_fixture

    failed, out = [], sys.stdout
    with job_runner(options.ray, options.fixtures, options.device) as do:
        jobs = {
            name: partial(train_fixture, FixtureRef(name, options.fixtures), device=options.device) for name in names
        }
        for name, made in do(jobs):
            if isinstance(made, Exception):
                failed.append(name)
                for line in str(made).splitlines():
                    print(f"harness: {name}: {line}", file=sys.stderr)
            else:
                _tell(made.pin, options.fixtures / name, out)
    print(f"{len(names) - len(failed)} of {len(names)} fixtures trained" + "".join(f"; not {n}" for n in failed))
    return TROUBLE if failed else OK


def _reproduce(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    from harness.training.reproduction import reproduce, trained_here

    names = trained_here(options.fixture, options.fixtures)
    found = []
    for made in reproduce(names, options.fixtures, options.device):
        found.append(made)
        print(": ".join([made.pinned.name, ", ".join(made.row()[1:])]), flush=True)
    heads = ["fixture", "weights", "right: pinned, again", "training"]
    print("\n" + tabulate([made.row() for made in found], heads, disable_numparse=True))
    return OK if all(made.same_bits or made.same_accuracy for made in found) else FAILED


def _curves(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.files import CURVES, fixture_directory, recipe_of

    directory = fixture_directory(ref_of(options))
    task = recipe_of(ref_of(options)).task
    from tabulate import tabulate

    from harness.training.curves import final_losses, read_curves, task_shares

    curves = read_curves(directory / CURVES, task)
    final = f"Final losses (mean of the last five steps, nats per {task.nouns.token})"
    print(f"{options.fixture}: {len(curves.values):,} steps. {final}:")
    print(tabulate(final_losses(curves), "keys", disable_numparse=True))
    print(task_shares(curves), end="\n" if curves.task.series.kinds else "")
    from harness.base.files import refuse_outside, write_atomically
    from harness.training.plots import FORMATS, draw, figures_of

    out = options.out or Path("reports", "curves", options.fixture)
    files = {
        out / f"{figure}.{suffix}": (figure, suffix)
        for figure in figures_of(curves)
        for suffix in options.format or FORMATS
    }
    try:
        for path in files if options.out is None else ():
            refuse_outside(path, Path())
        out.mkdir(parents=True, exist_ok=True)
        for path, (figure, file_format) in files.items():
            write_atomically(path, draw(curves, figure, file_format))
    except OSError as error:
        raise HarnessError.of("a directory that can be written", error.strerror or "", "choose another", out) from None
    print(f"wrote {', '.join(figures_of(curves))} to {out}")
    return OK


def _import(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.files import RECIPE, recipe_of

    published = options.checkpoint.removeprefix("hub:") if options.checkpoint.startswith("hub:") else None
    if published is not None and (options.recipe or options.name):
        raise HarnessError.of("hub:NAME alone", "--recipe or --name as well", "leave them out")
    if published is None and not (options.recipe and options.name):
        raise HarnessError.of("--recipe and --name with a file", "none", "add them, or import hub:NAME")
    from harness.training.checkpoints import import_checkpoint, import_published

    how = {"note": options.note, "device": options.device}
    if published is not None:
        pin = import_published(FixtureRef(published, options.fixtures), **how)
    else:
        pin = import_checkpoint(Path(options.checkpoint), options.recipe, options.name, options.fixtures, **how)
    _tell(pin, options.fixtures / pin.name)
    hub = recipe_of(FixtureRef(pin.name, options.fixtures)).hub
    if hub is not None and hub.sha256 is None and pin.provenance is not None:
        place = options.fixtures / pin.name / RECIPE
        print(f"The recipe pins no sha256 of the published file. To have it checked, add to `hub` in {place}:")
        print(f"  sha256: {pin.provenance.source_sha256}")
    return OK
