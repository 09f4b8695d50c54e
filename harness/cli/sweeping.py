"""``harness sweep``: the notebook's tables of a small model; with ``--nodes``, a metric with each of these cut."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError
from harness.base.text import did_you_mean
from harness.cli.options import (
    OK,
    common_options,
    corrupt_option,
    engine_option,
    method_option,
    ref_of,
    replaced_from,
    task_option,
    write_or_print,
)  # fmt: skip

if TYPE_CHECKING:
    from harness.specs.nodes import Shape

SEED = 77  # of the prompts, and of counterparts that are drawn


def add_sweep_command(commands: Any) -> None:
    """Add ``sweep``."""
    command = commands.add_parser("sweep", help="what breaks when each node is cut (the notebook's Parts 9-11F)")
    command.add_argument("fixture")
    command.add_argument(
        "--questions", "--prompts", action="append", metavar="Q",
        help="a set, a [list] or a {description}, as in a spec; repeatable (default: the task's own)",
    )  # fmt: skip
    method_option(command, "of the step × head grid")
    command.add_argument(
        "--reference", metavar="Q", help="whose activations replace (default: the first of the task's own)"
    )
    command.add_argument(
        "--nodes", action="append", metavar="NODES",
        help="cut only these, each by itself, and tell how far a metric moves: L12-L29@END; repeatable",
    )  # fmt: skip
    command.add_argument("--metric", help="with --nodes: logit_diff, prob, … (default: of the task)")
    corrupt_option(command, "with --nodes: ")
    command.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    command.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    command.add_argument(
        "--resume", type=Path, metavar="FILE", help="with --nodes: keep each row there, and go on from it"
    )
    task_option(command)
    common_options(command)
    engine_option(command)
    command.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.roles import shape_of

    for name in ("metric", "corrupt", "resume"):
        if getattr(options, name) is not None and not options.nodes:
            raise HarnessError.of(f"--nodes with --{name}", f"--{name} alone", "name the nodes that are cut")
    shape = shape_of(ref_of(options))
    text = _scanned(options, shape) if options.nodes else _tables(options, shape)
    write_or_print(text, options.out)
    return OK


def _tables(options: argparse.Namespace, shape: Shape) -> str:
    from harness.specs.keys import REFERENCE_SEED
    from harness.specs.spec_files import read_questions

    if shape.asks:
        fix = "write --nodes L12-L29@END, say, and --metric logit_diff"
        raise HarnessError.of("--nodes, for a language model has too many of them", "none", fix)
    task = shape.task
    sets = [read_questions(text, shape) for text in options.questions or task.swept]
    reference = read_questions(options.reference or task.swept[0], shape, REFERENCE_SEED)
    from harness.exploring.sweeps import sweep, to_markdown
    from harness.judging.bench import Workbench

    bench = Workbench(options.device, options.engine)
    found = sweep(ref_of(options), sets, reference, options.method, bench)
    if options.json:
        return json.dumps(asdict(found), indent=1) + "\n"
    return to_markdown(found, bench.fixture(ref_of(options))) + "\n"


def _scanned(options: argparse.Namespace, shape: Shape) -> str:
    from harness.specs.metrics import METRICS, NEEDS_WRONG
    from harness.specs.nodes import read_nodes
    from harness.specs.spec_files import read_questions

    task, asked = shape.task, options.questions or []
    if len(asked) > 1:
        raise HarnessError.of("--questions once, with --nodes", f"{len(asked)} of them", "sweep them one by one")
    metric = options.metric or ("logit_diff" if task.has_wrong else "prob")
    known = [name for name in METRICS if task.has_wrong or name not in NEEDS_WRONG]
    if metric not in known:
        raise HarnessError.of(f"a metric {', '.join(known)}", metric, did_you_mean(metric, known))
    nodes = read_nodes(options.nodes, shape)
    questions = read_questions(asked[0] if asked else task.swept[0], shape, SEED)
    method, reference = replaced_from(options, shape, questions, SEED)
    from tqdm import tqdm

    from harness.exploring.scan import scan, scan_markdown
    from harness.judging.bench import Workbench
    from harness.judging.requests import Ablation

    ablation = Ablation(ref_of(options), nodes, method, reference, questions)
    bench = Workbench(options.device, options.engine)
    with tqdm(total=len(nodes), unit="node", disable=None) as bar:
        for found in scan(ablation, metric, bench, options.resume):
            bar.update(len(found.rows) - bar.n)
    return json.dumps(asdict(found), indent=1) + "\n" if options.json else scan_markdown(found) + "\n"
