"""The plugin's options and ini keys: every option begins with ``--harness-``, every key with ``harness_``."""

from __future__ import annotations

import argparse
import math

import pytest

from harness.cli.options import ENGINE_HELP
from harness.engines.names import CHOICES

MOST_RESEEDS = 1000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the harness's options and ini keys."""
    group = parser.getgroup("harness", "claims about the inside of models")
    group.addoption(
        "--harness-device", default="auto", metavar="D",
        help="auto (default: a GPU if there is one), cpu or cuda[:N]; with -n, auto and cuda give each worker one GPU",
    )  # fmt: skip
    group.addoption("--harness-engine", default="auto", choices=CHOICES, help=ENGINE_HELP)
    group.addoption(
        "--harness-fixtures", type=_path, metavar="DIR", help="directory of fixtures (default: ROOTDIR/fixtures)"
    )
    group.addoption(
        "--harness-report", type=_path, metavar="PATH",
        help="where the report goes: PATH.md and PATH.json, or into a directory (default: ROOTDIR/reports)",
    )  # fmt: skip
    group.addoption(
        "--harness-html", type=_path, metavar="PATH",
        help="also write the report as one HTML page, with a map of each model that claims look inside of",
    )  # fmt: skip
    group.addoption(
        "--harness-train", choices=["missing", "never", "always"],
        help="train fixtures that have a recipe and no weights (missing; the default, but never where CI=true), "
        "or all that were trained here anew (always)",
    )  # fmt: skip
    group.addoption(
        "--harness-controls", action="store_true",
        help="show for each claim that intervenes: values put back, how its nodes rank among others, the other methods",
    )  # fmt: skip
    group.addoption(
        "--harness-mutate", action="store_true",
        help="change each supported claim in small ways, and report which of these mutants are supported too",
    )  # fmt: skip
    group.addoption(
        "--harness-reseed", type=_times, default=0, metavar="K",
        help="ask each claim about a sample again on K fresh seeds, and tell on how many it is supported",
    )  # fmt: skip
    group.addoption(
        "--harness-coverage", action="store_true",
        help="report which nodes measurably matter, and which of these no supported claim names",
    )  # fmt: skip
    group.addoption(
        "--harness-coverage-fail-under", type=_per_cent, metavar="N",
        help="fail if less than N per cent of a model's nodes that matter are named (implies --harness-coverage)",
    )  # fmt: skip
    parser.addini(
        "harness_allow_code", "run the Python that recipes name (task: and model:)", type="bool", default=False
    )
    parser.addini("harness_paths", "directories whose YAML files are specs", type="paths", default=[])


def _path(text: str) -> str:
    if "\0" in text:
        raise argparse.ArgumentTypeError("expected a path, found a NUL in it")
    return text


def _times(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_RESEEDS:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MOST_RESEEDS}, found {text}")
    return int(text)


def _per_cent(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 100:  # also true of nan
        raise argparse.ArgumentTypeError(f"expected per cent from 0 to 100, found {text}")
    return share
