"""The parser and entry point of ``harness``, and its command ``ask``.

Heavy modules are imported only when a command needs them.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import shlex
import sys
from collections.abc import Sequence

from harness.base.errors import HarnessError, Problem
from harness.base.own_code import allow_code
from harness.cli.check import add_check_command
from harness.cli.claims import add_claim_commands, add_role_commands
from harness.cli.fixtures import add_fixture_commands
from harness.cli.look import add_looking_commands
from harness.cli.minimal import add_minimal_command
from harness.cli.models import add_model_commands
from harness.cli.options import (
    INTERRUPTED,
    OK,
    TROUBLE,
    common_options,
    corrupt_option,
    engine_option,
    method_option,
    ref_of,
    replaced_from,
    task_option,
)
from harness.cli.sweeping import add_sweep_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 fine, 1 a claim does not hold, 2 trouble (one line per problem)."""
    options = _parser().parse_args(arguments)
    options.typed = shlex.join(["harness", *(sys.argv[1:] if arguments is None else arguments)])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows \xd7 for ×
    before = allow_code(getattr(options, "allow_code", False))
    try:
        code = int(options.run(options))
        if sys.stdout is not None:  # None: stdout was closed before the start
            sys.stdout.flush()
        return code
    except HarnessError as error:
        for problem in error.problems:
            print(f"harness: {problem}", file=sys.stderr)
        return TROUBLE
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        _drop_output()
        return OK
    except OSError as error:
        if error.filename is not None:  # the system refuses the path: too long, for example
            problem = Problem("a path that can be used", error.strerror or str(error), "name another", error.filename)
            print(f"harness: {problem}", file=sys.stderr)
            return TROUBLE
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF):  # not an error of our output
            raise
        _drop_output()
        print(f"harness: expected output that can be written, found {error.strerror}; free some space", file=sys.stderr)
        return TROUBLE
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        allow_code(before)


def _drop_output() -> None:
    """Redirect stdout to the null device, so that Python does not complain about unflushed output at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="harness", description="Claims about the inside of models, outside pytest.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_check_command(commands)
    add_sweep_command(commands)
    command = commands.add_parser("ask", help="single questions: what is answered; of a language model, the top tokens")
    command.add_argument("fixture")
    command.add_argument("question", nargs="+", metavar="QUESTION", help="15508+14500")
    command.add_argument("--ablate", action="append", metavar="NODE", help="S11L0H2; repeatable, all at once")
    method_option(command)
    command.add_argument("--reference", metavar="Q", help="as in a spec (default: the first of the task's own)")
    corrupt_option(command)
    task_option(command)
    common_options(command)
    engine_option(command)
    command.set_defaults(run=_ask)

    add_minimal_command(commands)
    add_looking_commands(commands)
    add_fixture_commands(commands)
    add_model_commands(commands)
    add_role_commands(commands)
    add_claim_commands(commands)
    return parser


def _ask(options: argparse.Namespace) -> int:
    from harness.specs.fixtures.roles import shape_of
    from harness.specs.nodes import read_nodes
    from harness.tasks.questions import QuestionList

    shape = shape_of(ref_of(options))
    questions = QuestionList(tuple(shape.task.read_question(text) for text in options.question))
    nodes = read_nodes(options.ablate, shape) if options.ablate else ()
    method, reference = replaced_from(options, shape, questions, 0)
    from harness.exploring.sweeps import ask
    from harness.exploring.top_tokens import ask_top
    from harness.judging.bench import Workbench
    from harness.judging.requests import Ablation

    ablation = Ablation(ref_of(options), nodes, method, reference, questions)
    for line in (ask_top if shape.asks else ask)(ablation, Workbench(options.device, options.engine)):
        print(line)
    return OK
