"""What is measured is a ratio: ours and its baseline take turns in one run, so that both see the same machine."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from tabulate import tabulate

_ROWS = pytest.StashKey[list]()
_TABLES = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def gemm_rate():
    """Return this machine's fp32 matrix product rate, FLOP/s: the best of several, of 2048 × 2048."""
    a = torch.randn(2048, 2048)
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


@pytest.fixture
def paired(benchmark, request):
    """Return a function that times `ours` and `baseline` in turn and keeps the ratio of their medians."""

    def run(ours, baseline, *, rounds, target, what="× faster", note="", warmup=2):
        for _ in range(warmup):
            baseline()
            ours()
        times = []

        def setup():
            start = time.perf_counter()
            baseline()
            times.append(time.perf_counter() - start)

        benchmark.pedantic(ours, setup=setup, rounds=rounds)
        ratio = statistics.median(times) / benchmark.stats.stats.median
        benchmark.extra_info.update(baseline_median=statistics.median(times), ratio=ratio)
        add_row(request.config, request.node.name, benchmark.stats.stats.median, statistics.median(times),
                f"{ratio:.2f} {what}", target, note() if callable(note) else note)  # fmt: skip
        return ratio

    return run


@pytest.fixture
def add(request):
    """Return a function that adds a row of its own to the table."""
    return lambda *row: add_row(request.config, request.node.name, *row)


@pytest.fixture
def record_table(request):
    """Return a function that has a table of its own printed at the end."""
    return lambda table: request.config.stash.setdefault(_TABLES, []).append(table)


def add_row(config, name, ours, baseline, ratio, target, note):
    config.stash.setdefault(_ROWS, []).append((name, _seconds(ours), _seconds(baseline), ratio, target, note))


def _seconds(value):
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.2f} ms"


def pytest_terminal_summary(terminalreporter, config):
    if rows := config.stash.get(_ROWS, []):
        terminalreporter.section("ours against its baseline, medians, taken in turn in this run")
        terminalreporter.write_line(
            tabulate(rows, ["benchmark", "ours", "baseline", "ratio", "target", ""], disable_numparse=True)
        )
    for table in config.stash.get(_TABLES, []):
        terminalreporter.section("in full")
        terminalreporter.write_line(table)
