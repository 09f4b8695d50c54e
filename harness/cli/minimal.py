"""``harness minimal``: a small set of heads or MLPs that carries the whole answer, or keeps a metric."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError
from harness.cli.options import (
    OK,
    common_options,
    corrupt_option,
    engine_option,
    method_option,
    ref_of,
    replaced_from,
    task_option,
)

if TYPE_CHECKING:
    from harness.specs.nodes import Shape

N, PROMPTS, SHARE = 400, 64, 0.8


def add_minimal_command(commands: Any) -> None:
    """Add ``minimal``."""
    command = commands.add_parser("minimal", help="how few heads or MLPs carry the whole answer: a claim with keep")
    command.add_argument("fixture")
    command.add_argument("--part", choices=["heads", "mlps"], default="heads", help="what is cut (default: heads)")
    command.add_argument("--n", type=int, help=f"questions to search with (default: {N}; {PROMPTS} where they differ)")
    command.add_argument("--seed", type=int, default=77, help="of these questions (default: 77)")
    command.add_argument(
        "--nodes", action="append", metavar="NODES", help="of a language model: only these may be cut: L12-L29"
    )
    command.add_argument("--metric", help="of a language model: which is to be kept (default: of the task)")
    command.add_argument(
        "--share", type=float, default=SHARE, help=f"of its clean mean that is to be kept (default: {SHARE})"
    )
    corrupt_option(command, "of a language model: ")
    method_option(command)
    task_option(command)
    common_options(command)
    engine_option(command)
    command.set_defaults(run=_minimal)


def _minimal(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.roles import shape_of

    if options.n is not None and options.n < 1:
        raise HarnessError.of("--n of at least 1", str(options.n), "ask some questions")
    shape = shape_of(ref_of(options))
    if not shape.task.names:
        print(_kept(options, shape), end="")
        return OK
    for name in ("nodes", "metric", "corrupt"):
        if getattr(options, name) is not None:
            raise HarnessError.of(f"--{name} of prompts that differ in length", shape.task.title, "leave it out")
    from harness.exploring.minimal_sets import find_minimal
    from harness.judging.bench import Workbench

    found = find_minimal(
        ref_of(options), options.part, Workbench(options.device, options.engine),
        n=options.n or N, seed=options.seed, method=options.method,
    )  # fmt: skip
    print(f"version: 1\nfixture: {found.fixture}\nhypotheses:\n{found.claim()}", end="")
    return OK


def _kept(options: argparse.Namespace, shape: Shape) -> str:
    """Return the spec of what a search by a metric finds; show its progress."""
    from tqdm import tqdm

    from harness.exploring.metric_drafts import metric_for
    from harness.exploring.sufficient_heads import find_sufficient
    from harness.judging.bench import Workbench
    from harness.judging.requests import Ablation
    from harness.specs.nodes import read_nodes
    from harness.specs.parsing import DEFAULT_REFERENCE
    from harness.tasks.questions import Sample

    if not 0 < options.share < 1:
        raise HarnessError.of("--share between 0 and 1", f"{options.share:g}", "write 0.8, say")
    if options.method == "resample":
        raise HarnessError.of("a method that needs no donors of the same length", "resample", "write --corrupt NAME")
    metric = metric_for(shape.task, options.metric)
    if metric == "loss":
        raise HarnessError.of("a metric of which more is better", metric, "write --metric prob")
    nodes = read_nodes(options.nodes or [f"L0-L{shape.n_layers - 1}"], shape)
    questions = Sample(options.n or PROMPTS, options.seed, shape.task.spread())
    method, reference = replaced_from(options, shape, questions, options.seed, DEFAULT_REFERENCE)
    ablation = Ablation(ref_of(options), nodes, method, reference, questions)
    bench = Workbench(options.device, options.engine)
    with tqdm(unit="run", disable=None) as bar:
        for found in find_sufficient(ablation, metric, options.part, options.share, bench):
            bar.set_postfix_str(f"{len(found.kept)} {options.part} kept, {metric} {found.mean:.3g}", refresh=False)
            bar.update(found.steps - bar.n)
    return found.spec()
