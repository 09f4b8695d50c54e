"""The JSON schema that editors use is the one the code would generate, and says what the code says."""

from __future__ import annotations

import json

import jsonschema
import pytest
from paths import HYPOTHESES, ROOT
from ruamel.yaml import YAML

from harness.specs.schema import json_schema

SCHEMA = json.loads((ROOT / "harness" / "hypothesis.schema.json").read_text("utf-8"))


def test_the_schema_is_fresh():
    assert json_schema() == SCHEMA, "run `make schema`"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(HYPOTHESES.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_specs_follow_it(path):
    jsonschema.validate(YAML(typ="safe", pure=True).load(path), SCHEMA)


GOOD = {"id": "a", "claim": "c", "ablate": "S3", "questions": {"n": 10}, "expect": {"fails": []}}


@pytest.mark.parametrize(
    "changes",
    [
        {"abblate": "S3"},
        {"expect": {"fail": []}},
        {"questions": {"n": 0}},
        {"method": "median"},
        {"gate": 2},
        {"ablate": []},
    ],
)
def test_it_refuses_what_the_code_refuses(changes):
    file = {"version": 1, "fixture": "f", "hypotheses": [{**GOOD, **changes}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(file, SCHEMA)


def test_a_placeholder_may_stand_for_a_number():
    claim = {**GOOD, "questions": {"n": "{n}", "where": {"cascade": "{k}"}}, "each": [{"n": 10, "k": 1}]}
    jsonschema.validate({"version": 1, "fixture": "f", "hypotheses": [claim]}, SCHEMA)
