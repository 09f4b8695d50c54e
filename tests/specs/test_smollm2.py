"""Claims about SmolLM2 bind to its reference before it is fetched: positions, nodes, counterparts, metrics."""

from __future__ import annotations

import pytest
from paths import ROOT

from harness.base.errors import NotImportedError
from harness.models.fixtures import load_fixture
from harness.specs.spec_files import load_hypotheses

SPECS = ROOT / "hypotheses" / "smollm2"


def test_they_are_read_and_bound_without_the_model(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    claims = load_hypotheses(SPECS, ROOT / "fixtures")
    assert len(claims) == 40
    assert {claim.ref.task for claim in claims} == {"ioi", "repeated"}
    told = {claim.id: claim.expected for claim in claims}
    assert told["S-inhibition-L23H3"] == "logit_diff falls on > 80%; logit_diff median ≤ 4.5"
    with pytest.raises(NotImportedError, match="harness fetch smollm2_135m"):
        load_fixture("smollm2_135m", ROOT / "fixtures", "cpu", "ioi")
