"""What several test files share."""

from __future__ import annotations

import os

import pytest
import tiny

from harness.base.own_code import allow_code


def pytest_addoption(parser):
    """Add the options of make's targets; here, as pytest does not read options of conftest files further down."""
    parser.addoption("--reliability-out", help="try all of the reliability corpus, and write the figures to this file")
    parser.addoption(
        "--packaged-python", help="the Python of an environment that `make package` installed the wheel in"
    )


def pytest_configure():
    """Keep what the runs inside of tests report out of a CI job's summary."""
    os.environ.pop("GITHUB_STEP_SUMMARY", None)


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")


@pytest.fixture(scope="module")
def one_thread():
    """Run a file's torch on one thread: its models are too small for two."""
    with tiny.one_thread():
        yield


@pytest.fixture(scope="module")
def server(request):
    """Start the server that a file's processes are forked from."""
    import forked  # which imports much

    forked.start_server(request.module.__name__, request.path.parent)


@pytest.fixture
def code_allowed():
    """Let recipes name code, in this test."""
    before = allow_code()
    yield
    allow_code(before)
