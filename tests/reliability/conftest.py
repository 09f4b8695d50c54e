"""The reliability corpus: each file of tests is a section of docs/reliability.md, each figure in it a row.

`make test` tries a seeded part of everything; `make reliability` tries all, and writes the document.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tabulate import tabulate

_INTRODUCTION = """# Reliability: what was tried to lose something, or to fool somebody

Written by `make reliability`, which does all of it again and fails where a line does not hold. Seeds are fixed, so
the same things are tried each time.
"""

_STOPPED = "**The run was stopped before its end: what is missing below was not tried.**\n"


@pytest.fixture
def many(request):
    """Return a function of two numbers: how often something is tried by `make reliability`, and by `make test`."""
    return lambda full, quick: full if request.config.getoption("reliability_out") else quick


@pytest.fixture
def figure(request):
    """Return a function that puts a row into the document: what was tried, how often, how often it came out right."""

    def add(what: str, tried: int, right: int, note: str = "") -> None:
        title, _, text = sys.modules[request.module.__name__].__doc__.partition("\n")
        row = (title.rstrip("."), text.strip(), what, f"{tried:,}", f"{right:,}", note)
        request.node.user_properties.append(("reliability", row))

    return add


def pytest_configure(config):
    """Collect the figures where all reports come together: not in the workers of xdist."""
    if (out := config.getoption("reliability_out")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Figures(Path(out)))


class _Figures:
    """All that the tests found, in the order of the sections, and the document made of it."""

    def __init__(self, out):
        self.out = out
        self.sections = {}

    def pytest_runtest_logreport(self, report):
        if report.when != "call":
            return
        for title, text, *row, note in (row for name, row in report.user_properties if name == "reliability"):
            self.sections.setdefault((title, text), []).append((*row, note if report.passed else "FAILED"))

    def pytest_sessionfinish(self, exitstatus):
        parts = [_INTRODUCTION]
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            parts += [_STOPPED]
        for (title, text), rows in sorted(self.sections.items()):
            table = tabulate(rows, ["tried", "times", "as it should", ""], tablefmt="github", disable_numparse=True)
            parts.append("\n\n".join(filter(None, [f"## {title}", text, table])) + "\n")
        self.out.write_text("\n".join(parts), "utf-8")
