"""What several test files share."""

from __future__ import annotations

import pytest
import tiny


def pytest_addoption(parser):
    """Add the option of `make reliability`; here, as pytest does not read options of conftest files further down."""
    parser.addoption("--reliability-out", help="try all of the reliability corpus, and write the figures to this file")


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
