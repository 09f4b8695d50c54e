"""The model whose inside is known, as a fixture."""

from __future__ import annotations

import pytest
from planted import RECIPE, planted_weights
from tiny import write_tiny

from harness.workbench import Workbench


@pytest.fixture(scope="package")
def fixtures(tmp_path_factory):
    path = tmp_path_factory.mktemp("fixtures")
    sizes = {key: getattr(RECIPE, key) for key in ("n_digits", "n_layers", "n_heads", "d_model", "d_mlp")}
    write_tiny(path, "planted", weights=planted_weights(), **sizes)
    return path


@pytest.fixture(scope="module")
def bench():
    return Workbench("cpu")
