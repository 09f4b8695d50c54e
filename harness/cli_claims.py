"""The commands about writing claims: ``harness new`` and ``schema``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.cli_fixtures import OK, common_options, method_option, write_or_print
from harness.errors import HarnessError


def add_claim_commands(commands: Any) -> None:
    """Add the commands about writing claims."""
    command = commands.add_parser(
        "new", help="draft a claim from a measurement: what happens when these nodes are cut?",
        description="Cut the nodes, and print a spec that says which digits failed, marked `recorded: true`.",
    )  # fmt: skip
    command.add_argument("fixture", metavar="FIXTURE")
    command.add_argument("nodes", nargs="+", metavar="NODE", help="S11L0H2, or '[base_add.A4]'; several: all at once")
    command.add_argument(
        "--questions", metavar="Q",
        help="a sample, as in a spec (default: {n: 1000, stratify: cascade}); the claim asks others of its kind",
    )  # fmt: skip
    method_option(command)
    command.add_argument("--out", type=Path, metavar="FILE", help="write there, where no file is, instead of printing")
    common_options(command)
    command.set_defaults(run=_new)

    command = commands.add_parser("schema", help="print the JSON schema of spec files, for editors")
    command.add_argument("--markdown", action="store_true", help="print docs/spec-reference.md instead")
    command.set_defaults(run=_schema)


def _new(options: argparse.Namespace) -> int:
    if options.out is not None and options.out.exists():  # told before measuring, not after it
        raise HarnessError.of("a file that is not there yet", str(options.out), "name another, or remove it")
    from harness.drafting import draft
    from harness.workbench import Workbench

    bench = Workbench(options.device)
    text = draft(options.fixture, options.fixtures, options.nodes, options.questions, options.method, bench)
    write_or_print(text, options.out)
    if options.out is not None:
        print(f"wrote {options.out}; judge it: harness check {options.out}")
    return OK


def _schema(options: argparse.Namespace) -> int:
    if options.markdown:
        from harness.reference import spec_reference

        print(spec_reference(), end="")
        return OK
    from harness.spec_model import json_schema

    print(json.dumps(json_schema(), indent=2))
    return OK
