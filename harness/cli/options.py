"""Exit codes, and the options and helpers that several commands of ``harness`` share. Imports no torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import HarnessError
from harness.engines.names import CHOICES
from harness.specs.fixtures.files import FixtureRef

if TYPE_CHECKING:
    from harness.specs.nodes import Shape
    from harness.tasks.questions import Questions, Source

OK, FAILED, TROUBLE, INTERRUPTED = 0, 1, 2, 130
ENGINE_HELP = (
    "cone recomputes only what an intervention can reach, hooks runs the whole model through TransformerLens; "
    "auto (default) is cone where the model's shape allows"
)


def common_options(command: argparse.ArgumentParser) -> None:
    """Add ``--fixtures``, ``--device`` and ``--allow-code``."""
    command.add_argument("--fixtures", type=Path, default=Path("fixtures"), metavar="DIR")
    command.add_argument("--device", default="auto", help="auto (default), cpu or cuda[:N]")
    code_option(command)


def ref_of(options: argparse.Namespace) -> FixtureRef:
    """Return the fixture that is named, in the directory of fixtures that is given."""
    return FixtureRef(options.fixture, options.fixtures, getattr(options, "task", ""))


def task_option(command: argparse.ArgumentParser) -> None:
    """Add ``--task``, what a model by reference is asked."""
    command.add_argument("--task", default="", metavar="NAME", help="of a language model: the prompts file it is asked")


def corrupt_option(command: argparse.ArgumentParser, needs: str = "") -> None:
    """Add ``--corrupt``, the counterparts that values are taken from."""
    command.add_argument("--corrupt", metavar="NAME", help=f"{needs}values from the prompts' counterparts NAME")


def replaced_from(
    options: argparse.Namespace, shape: Shape, questions: Questions, seed: int, default: Questions | None = None
) -> tuple[str, Source]:
    """Return the method, and the prompts whose activations replace those of `questions`.

    Those are the first of the task's own unless there is a `default`.

    Raises:
        HarnessError: the task has no counterpart of this name.
    """
    from harness.specs.keys import REFERENCE_SEED
    from harness.specs.methods import CORRUPT
    from harness.specs.spec_files import read_questions
    from harness.tasks.questions import Counterparts

    if options.corrupt is not None:
        shape.task.check_counterpart(options.corrupt)
        return CORRUPT, Counterparts(questions, options.corrupt, seed)
    if default is not None:
        return options.method, default
    text = options.reference or shape.task.swept[0]
    return options.method, read_questions(text, shape, REFERENCE_SEED)


def code_option(command: argparse.ArgumentParser) -> None:
    """Add ``--allow-code``, the permission to run the Python that recipes name."""
    command.add_argument("--allow-code", action="store_true", help="run the Python that recipes name: task, model")


def method_option(command: argparse.ArgumentParser, what: str = "what replaces a node's value") -> None:
    """Add ``--method``, the ablation method."""
    from harness.specs.methods import METHODS

    command.add_argument("--method", choices=list(METHODS), default="mean", help=f"{what} (default: mean)")


def ray_option(command: argparse.ArgumentParser) -> None:
    """Add ``--ray``, the Ray cluster that runs the jobs."""
    command.add_argument(
        "--ray", metavar="ADDRESS",
        help="with --all: hand whole fixtures to this Ray cluster, HOST:PORT or auto; see docs/many-machines.md",
    )  # fmt: skip


def refuse_without_all(options: argparse.Namespace, *names: str) -> None:
    """Refuse options that are valid only with ``--all``.

    Raises:
        HarnessError: one was given without ``--all``.
    """
    for name in names:
        if not options.all and getattr(options, name):
            raise HarnessError.of(f"--all with --{name}", f"--{name} alone", "add --all")


def engine_option(command: argparse.ArgumentParser) -> None:
    """Add ``--engine``, the engine that runs the models."""
    command.add_argument("--engine", choices=CHOICES, default="auto", help=ENGINE_HELP)


def write_or_print(text: str, out: Path | None) -> None:
    """Write a text to the file `out`, or print it if `out` is None.

    Raises:
        HarnessError: the file cannot be written.
    """
    if out is None:
        print(text, end="")
        return
    from harness.base.files import write_atomically

    try:
        write_atomically(out, text.encode())
    except OSError as error:
        raise HarnessError.of("a file that can be written", error.strerror or "", "choose another", out) from None
