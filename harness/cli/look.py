"""The commands that look into a model without ablation: ``harness attention`` and ``describe``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.base.errors import HarnessError
from harness.cli.options import OK, common_options, ref_of, task_option

if TYPE_CHECKING:
    from harness.training.plots import Format

SUFFIXES = (".png", ".svg", ".pdf")


def add_looking_commands(commands: Any) -> None:
    """Add ``attention`` and ``describe``."""
    command = commands.add_parser(
        "attention", help="where every head looks at every step, as a picture or a page (Part 13)",
        description="Draw every head's attention pattern, all steps, layers × heads: of the questions; or, with none, "
        "of a few of each kind; or, with --mean alone, only their mean over a set.",
    )  # fmt: skip
    command.add_argument("fixture", metavar="FIXTURE")
    command.add_argument("question", nargs="*", metavar="QUESTION", help="15508+14500; right after FIXTURE")
    command.add_argument(
        "--mean", metavar="Q", help="also the mean over a set, a [list] or a {description}, as in a spec: varied"
    )
    command.add_argument("--layers", metavar="L3-L5", help="draw these layers alone (default: all)")
    command.add_argument(
        "--out", type=Path, metavar="FILE",
        help="ends in .png, .svg or .pdf (a page for each question); default: attention-FIXTURE.png",
    )  # fmt: skip
    command.add_argument(
        "--html", type=Path, metavar="FILE",
        help="also an interactive page, by CircuitsVis (pip install circuitsvis): self-contained, it loads nothing",
    )  # fmt: skip
    task_option(command)
    common_options(command)
    command.set_defaults(run=_attention)

    command = commands.add_parser(
        "describe", help="a model's config, weights, hook points, circuits and accuracy (Part 12)",
        description="Print what a model consists of, as Markdown.",
    )  # fmt: skip
    command.add_argument("fixture", metavar="FIXTURE")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="write describe.md there, with a picture of each layer's circuits"
    )
    task_option(command)
    common_options(command)
    command.set_defaults(run=_describe)


def _attention(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.files import recipe_of
    from harness.specs.keys import REFERENCE_SEED
    from harness.specs.nodes import read_nodes
    from harness.specs.spec_files import read_questions

    # Check the arguments before anything heavy is imported.
    shape = recipe_of(ref_of(options)).shape
    asked = [shape.task.read_question(text) for text in options.question]
    over = None if options.mean is None else read_questions(options.mean, shape, REFERENCE_SEED)
    layers = sorted({node.layer for node in read_nodes(options.layers, shape)}) if options.layers else None
    if layers is not None and over is not None:
        raise HarnessError.of("--layers of single questions", "--layers with --mean", "leave one of them out")
    out = options.out or Path(f"attention-{options.fixture}.png")
    file_format = _format_of(out)
    from harness.exploring.attention import attention_maps, mean_map
    from harness.exploring.attention_figures import draw_attention
    from harness.exploring.attention_page import attention_page, require_circuitsvis
    from harness.models.fixtures import load_fixture

    if options.html is not None:
        require_circuitsvis()
    fixture, titles = load_fixture(options.fixture, options.fixtures, options.device, options.task), []
    if not asked and over is None:
        examples = fixture.task.examples()
        if shape.asks:  # a picture of all its heads is large
            examples = {name: questions[:1] for name, questions in examples.items()}
        asked = [question for questions in examples.values() for question in questions]
        titles = [name for name, questions in examples.items() for _ in questions]
    maps = [mean_map(fixture, over)] if over is not None else []
    maps += attention_maps(fixture, asked, titles, layers) if asked else []
    if options.out is None:
        _refuse_outside(out)
    files = {out: draw_attention(fixture, maps, file_format)}
    if options.html is not None:
        files[options.html] = attention_page(fixture, maps).encode()
    _write(files)
    return OK


def _refuse_outside(path: Path) -> None:
    from harness.base.files import refuse_outside

    try:
        refuse_outside(path, Path())
    except OSError as error:
        raise _unwritable("file", path, error) from None


def _format_of(path: Path) -> Format:
    """Return the figure format that a file's suffix names.

    Raises:
        HarnessError: the suffix names no known format.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise HarnessError.of("a file that ends in .png, .svg or .pdf", str(path), "choose one of these")
    return cast("Format", path.suffix.lower().removeprefix("."))


def _describe(options: argparse.Namespace) -> int:
    from harness.exploring.circuit_figures import draw_circuits
    from harness.exploring.circuits import circuits
    from harness.exploring.description import describe, to_markdown
    from harness.models.fixtures import load_fixture

    fixture = load_fixture(options.fixture, options.fixtures, options.device, options.task)
    found = describe(fixture, options.fixtures)
    if options.out is None:
        print(to_markdown(found), end="")
        return OK
    layers = range(fixture.shape.n_layers if found.circuits else 0)
    files = {f"circuits-L{layer}.png": draw_circuits(fixture, circuits(fixture, layer), "png") for layer in layers}
    text = to_markdown(found, list(files))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable("directory", options.out, error) from None
    _write({options.out / name: content for name, content in {**files, "describe.md": text.encode()}.items()})
    return OK


def _write(files: Mapping[Path, bytes]) -> None:
    """Write each file, and print its path.

    Raises:
        HarnessError: a file cannot be written.
    """
    from harness.base.files import write_atomically

    for path, content in files.items():
        try:
            write_atomically(path, content)
        except OSError as error:
            raise _unwritable("file", path, error) from None
        print(f"wrote {path}")


def _unwritable(what: str, path: Path, error: OSError) -> HarnessError:
    return HarnessError.of(f"a {what} that can be written", error.strerror or str(error), "choose another", path)
