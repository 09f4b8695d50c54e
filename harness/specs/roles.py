"""``fixtures/NAME/roles.yaml``: which nodes of one model have which role. Imports no torch.

Head numbers differ between training runs, but the function that a claim is about does not. A role, like
``mover.A4``, names the function, and the file binds it to this model's nodes::

    version: 1
    weights_sha256: 3f0c…            # the roles are valid for these weights only
    roles:
      mover: {A4: S12L0H0+H1, A3: S13L0H2}
      finder: {IO: S8L0H2}

``harness locate`` proposes such a file, with evidence for each role.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from harness.base.errors import FixtureError, Problem, SpecError
from harness.base.files import once_per_version
from harness.base.validation import Spelled, Strict, Version, validate
from harness.base.yaml_text import flow
from harness.base.yamlfile import read_yaml
from harness.specs.fixture_files import PIN, ROLES, FixtureRef, fixture_directory, recipe_of
from harness.specs.keys import AnswerToken, NodeNames, Rate, Text, VariableName
from harness.specs.nodes import Shape, read_nodes
from harness.specs.pins import read_pin
from harness.specs.recipe import Sha256
from harness.tasks.registry import every_shipped

_EXAMPLE = every_shipped()[0].role
RoleName = Annotated[
    str,
    Spelled(r"^[a-z][a-z0-9_]{0,39}$", f"a role of at most 40 of a-z, 0-9 and _, like {_EXAMPLE.partition('.')[0]}"),
]
Place = Annotated[str, Spelled(r"^[A-Za-z][A-Za-z0-9']{0,19}$", "a place of at most 20 letters and digits, like A4")]
FullName = Annotated[
    str, Spelled(r"^[a-z][a-z0-9_]*\.[A-Za-z][A-Za-z0-9']*$", f"a role with its place, like {_EXAMPLE}")
]


class Evidence(Strict):
    """What stands behind a role: its variable carried over, on pairs of prompts that the search has not seen."""

    model_config = ConfigDict(populate_by_name=True)

    variable: VariableName
    tokens: list[AnswerToken] = Field(alias="digits")
    pairs: int
    follow: Rate  # share of the pairs in which all of them follow and all others stay
    low: Rate  # the ends of the interval of `follow`; the intervals hold for all roles jointly
    high: Rate
    agreeing_change: Rate  # share of pairs with equal values of the variable in which some token changes nevertheless
    searched_follow: Rate  # the share on the search sample, by which these nodes were chosen
    next: NodeNames | None = None  # on the search sample, the best other set: no shared node, not larger
    next_follow: Rate | None = None


class RolesFile(Strict):
    """The names of a model's nodes."""

    version: Version
    weights_sha256: Sha256 | None = None
    roles: dict[RoleName, dict[Place, NodeNames]]
    evidence: dict[FullName, Evidence] = Field({})
    unplaced: dict[FullName, Text] = Field({})


def read_roles(ref: FixtureRef) -> RolesFile | None:
    """Return the roles file of a fixture, checked against the model's shape; None if there is no such file.

    Raises:
        HarnessError: there is no such fixture.
        FixtureError: the file cannot be read, names nodes that do not exist, or belongs to other weights.
    """
    path = fixture_directory(ref) / ROLES
    if not path.exists():
        return None
    shape = recipe_of(ref).shape
    try:
        found = _load(path, shape)
    except SpecError as error:
        raise FixtureError(*error.problems) from None
    pinned = read_pin(ref).weights_sha256 if (ref.directory / PIN).exists() else None
    if found.weights_sha256 is not None and pinned not in (None, found.weights_sha256):
        fix = f"find them anew: harness locate {ref.name}"
        raise FixtureError(
            Problem(f"roles of the weights {pinned[:12]}", f"of {found.weights_sha256[:12]}", fix, str(path))
        )
    return found


@once_per_version(256)  # a claim about a group reads them once per row
def _load(path: Path, shape: Shape) -> RolesFile:
    """Return the roles at `path`."""
    document = read_yaml(path)
    found = validate(RolesFile, document, document.data, (), shape)
    document.raise_problems()
    assert found is not None  # no problem was reported, so the file is valid
    return found


def without_evidence(ref: FixtureRef, roles: Iterable[str]) -> tuple[str, ...]:
    """Return those of the `roles` of a fixture for which its roles file gives no evidence.

    Raises:
        HarnessError: there is no such fixture.
        FixtureError: the recipe or the roles file is wrong.
    """
    found = read_roles(ref)
    return tuple(role for role in dict.fromkeys(roles) if found is None or role not in found.evidence)


def shape_of(ref: FixtureRef) -> Shape:
    """Return the shape of a fixture, including its roles.

    Raises:
        HarnessError: there is no such fixture.
        FixtureError: the recipe or the roles file is wrong.
    """
    shape = recipe_of(ref).shape
    found = read_roles(ref)
    if found is None:
        return shape
    roles = {
        f"{role}.{place}": read_nodes(nodes, shape)
        for role, places in found.roles.items()
        for place, nodes in places.items()
    }
    return replace(shape, roles={**dict.fromkeys(found.unplaced, ()), **roles})


def write_roles(found: RolesFile, heading: str) -> str:
    """Return the YAML text of a roles file, in the form that :func:`read_roles` reads."""
    lines = [*(f"# {line}" for line in heading.splitlines()), "version: 1"]
    if found.weights_sha256 is not None:
        lines.append(f'weights_sha256: "{found.weights_sha256}"')  # quoted, else digits alone would be a number
    lines += ["roles:" if found.roles else "roles: {}"]
    lines += [f"  {role}: {flow(places)}" for role, places in found.roles.items()]
    if found.evidence:
        lines += ["evidence:"]
        lines += [
            f"  {role}: {flow(row.model_dump(exclude_none=True, by_alias=True), '.4g')}"
            for role, row in found.evidence.items()
        ]
    if found.unplaced:
        lines += ["unplaced:"]
        lines += [f"  {role}: {json.dumps(why)}" for role, why in found.unplaced.items()]
    return "\n".join(lines) + "\n"
