"""What several test files share."""

from __future__ import annotations

import pytest
import tiny

from harness.permission import allow_code


def pytest_addoption(parser):
    """Add the option of `make reliability`; here, as pytest does not read options of conftest files further down."""
    parser.addoption("--reliability-out", help="try all of the reliability corpus, and write the figures to this file")


@pytest.fixture(scope="module")
def one_thread():
    """Run a file's torch on one thread: its models are too small for two."""
    with tiny.one_thread():
        yield


@pytest.fixture
def code_allowed():
    """Let recipes name code, in this test."""
    before = allow_code()
    yield
    allow_code(before)
