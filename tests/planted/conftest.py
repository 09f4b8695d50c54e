"""The model whose inside is known, as a fixture."""

from __future__ import annotations

import shutil

import pytest
from planted import planted_weights
from several import ORDERS, SIZES, write_run
from tiny import write_tiny

from harness.judging.bench import Workbench


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory):
    path = tmp_path_factory.mktemp("fixtures")
    write_tiny(path, "planted", weights=planted_weights(), **SIZES)
    return path


@pytest.fixture(scope="module")
def bench():
    return Workbench("cpu")


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Three runs; the third has no roles file."""
    path = tmp_path_factory.mktemp("runs")
    for name in ORDERS:
        write_run(path, name)
    return path


@pytest.fixture
def copied(runs, tmp_path):
    return shutil.copytree(runs, tmp_path / "fixtures")
