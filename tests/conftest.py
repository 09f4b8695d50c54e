"""What several test files share."""

from __future__ import annotations

import pytest
import tiny


@pytest.fixture(scope="module")
def one_thread():
    """Run a file's torch on one thread: its models are too small for two."""
    with tiny.one_thread():
        yield
