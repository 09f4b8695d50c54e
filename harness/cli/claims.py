"""The commands about writing claims (``harness new``, ``schema``) and about several training runs.

The latter are ``locate``, ``diff`` and ``findings``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.cli.options import (
    FAILED,
    OK,
    code_option,
    common_options,
    corrupt_option,
    method_option,
    ref_of,
    task_option,
    write_or_print,
)


def add_claim_commands(commands: Any) -> None:
    """Add ``new`` and ``schema``."""
    command = commands.add_parser(
        "new", help="draft a claim from a measurement: what happens when these nodes are cut?",
        description="Cut the nodes, and print a spec that says which tokens failed, marked `recorded: true`.",
    )  # fmt: skip
    command.add_argument("fixture", metavar="FIXTURE")
    command.add_argument("nodes", nargs="+", metavar="NODE", help="S11L0H2, or '[ROLE.PLACE]'; several: all at once")
    command.add_argument(
        "--questions", metavar="Q",
        help="a sample, as in a spec (default: {n: 1000}, stratified if the task can be); the claim asks others",
    )  # fmt: skip
    method_option(command)
    corrupt_option(command, "of a metric: ")
    command.add_argument(
        "--metric", help="claim on what share of prompts it falls or rises (default: of language models, their task's)"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="write there, where no file is, instead of printing")
    task_option(command)
    common_options(command)
    command.set_defaults(run=_new)

    command = commands.add_parser("schema", help="print the JSON schema of spec files, for editors")
    command.add_argument("--markdown", action="store_true", help="print docs/spec-reference.md instead")
    command.set_defaults(run=_schema)


def _new(options: argparse.Namespace) -> int:
    if options.out is not None and options.out.exists():  # refuse before measuring, not after
        raise HarnessError.of("a file that is not there yet", str(options.out), "name another, or remove it")
    from harness.exploring.drafts import draft
    from harness.exploring.metric_drafts import draft_metric
    from harness.judging.bench import Workbench
    from harness.specs.fixtures.roles import shape_of

    ref, bench = ref_of(options), Workbench(options.device)
    task = shape_of(ref).task
    if options.corrupt is not None:
        task.check_counterpart(options.corrupt)
    if options.metric or options.corrupt or not task.names:
        asked = (options.nodes, options.questions, options.method, options.corrupt, options.metric)
        text = draft_metric(ref, *asked, bench)
    else:
        text = draft(ref, options.nodes, options.questions, options.method, bench)
    write_or_print(text, options.out)
    if options.out is not None:
        print(f"wrote {options.out}; judge it: harness check {options.out}")
    return OK


def _schema(options: argparse.Namespace) -> int:
    if options.markdown:
        from harness.specs.key_reference import spec_reference

        print(spec_reference(), end="")
        return OK
    from harness.specs.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return OK


def add_role_commands(commands: Any) -> None:
    """Add ``locate``, ``diff``, ``findings`` and ``xfail``, the commands about training runs and reports."""
    command = commands.add_parser("locate", help="find which nodes have which role; writes the fixture's roles.yaml")
    command.add_argument("fixture", metavar="NAME")
    command.add_argument("--n", type=int, default=100, help="pairs of questions to search with (default: 100)")
    command.add_argument("--confirm", type=int, default=1000, help="other pairs, to confirm with (default: 1000)")
    command.add_argument(
        "--seed", type=int, default=0, help="from which those of the search and of the confirmation follow (default: 0)"
    )
    command.add_argument("--force", action="store_true", help="write over a roles file that is there")
    command.add_argument("--dry-run", action="store_true", help="only show what was found")
    task_option(command)
    common_options(command)
    command.set_defaults(run=_locate)

    command = commands.add_parser("diff", help="what became of the claims: verdicts, rates, roles; 1 if one was lost")
    command.add_argument("old", type=Path, metavar="OLD.json")
    command.add_argument("new", type=Path, metavar="NEW.json")
    command.set_defaults(run=_diff)

    command = commands.add_parser("findings", help="what holds of every training run, and what of some: Markdown")
    command.add_argument("report", type=Path, metavar="REPORT.json", help="of claims that ask several fixtures")
    command.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    command.add_argument("--command", default="make findings", help="what the document says that it is written by")
    command.add_argument("--fixtures", type=Path, default=Path("fixtures"), metavar="DIR")
    command.set_defaults(run=_findings)

    command = commands.add_parser(
        "xfail", help="write what a report saw into the xfails of specs that name no ranges",
        description="Write the verdict, and the range of each value that is not as claimed, into each `xfail` of "
        "the claims of a report that names no ranges. From then on such a claim fails if it moves.",
    )  # fmt: skip
    command.add_argument("report", type=Path, metavar="REPORT.json")
    command.add_argument("specs", type=Path, nargs="*", metavar="SPEC", help="files or directories (default: all)")
    command.add_argument("--dry-run", action="store_true", help="only say which claims would be filled")
    command.add_argument("--fixtures", type=Path, default=Path("fixtures"), metavar="DIR")
    code_option(command)
    command.set_defaults(run=_xfail)


def _locate(options: argparse.Namespace) -> int:
    for name, least in (("n", 1), ("confirm", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise HarnessError.of(f"--{name} of at least {least}", str(getattr(options, name)), "choose another")
    from harness.specs.fixtures.files import ROLES, fixture_directory
    from harness.specs.fixtures.roles import shape_of

    if not (task := shape_of(ref_of(options)).task).roles:  # before the weights are loaded
        fix = "look for its nodes with harness sweep"
        raise HarnessError.of("a model whose task names roles to look for", f"one of {task.title}", fix)
    there = fixture_directory(ref_of(options)) / ROLES
    if os.path.lexists(there) and not options.force and not options.dry_run:  # refuse before the search
        raise HarnessError.of("no roles file yet", str(there), "write over it with --force, or look with --dry-run")
    from harness.exploring.role_search import locate, roles_file, to_markdown
    from harness.judging.bench import Workbench
    from harness.models.storage import replace_roles
    from harness.specs.fixtures.roles import write_roles

    bench = Workbench(options.device)
    found = locate(
        ref_of(options), bench, n=options.n, confirm=options.confirm, seed=options.seed
    )  # fmt: skip
    print(to_markdown(options.fixture, found))
    if not options.dry_run:
        sha256 = bench.fixture(ref_of(options)).weights_sha256
        heading = (
            "Which nodes of these weights have which role: found by `harness locate "
            f"{options.fixture} --n {options.n} --confirm {options.confirm} --seed {options.seed}`.\n"
            "The search chose them on some pairs of questions; the evidence is of other pairs."
        )
        text = write_roles(roles_file(found, sha256), heading)
        print(f"\nwrote {replace_roles(ref_of(options), text, force=options.force)}")
    return OK


def _diff(options: argparse.Namespace) -> int:
    from harness.reporting.diff import compare_reports, read_report

    found = compare_reports(read_report(options.old), read_report(options.new))
    print("\n".join(found.lines()))
    return FAILED if found.lost else OK


def _findings(options: argparse.Namespace) -> int:
    from harness.reporting.diff import read_report
    from harness.reporting.findings import findings

    text = findings(list(read_report(options.report).values()), options.fixtures, options.command)
    write_or_print(text, options.out)
    return OK


def _xfail(options: argparse.Namespace) -> int:
    from harness.base.files import write_atomically
    from harness.reporting.diff import read_report
    from harness.reporting.xfail_ranges import fill_specs

    found = fill_specs(read_report(options.report), options.specs, options.fixtures)
    for one in found:
        if one.keys and not options.dry_run:
            write_atomically(one.path, one.text.encode())
    done = "would be filled" if options.dry_run else "filled"
    for one in found:
        for key in one.keys:
            print(f"{done}: {key}")
        for key, why in one.left.items():
            print(f"left: {key}: {why}")
    return OK
