"""``fixtures/NAME/roles.yaml``: which nodes of one model have which role. Imports no torch.

Head numbers belong to a training run; what a claim is about does not. A role is a name for it, like ``base_add.A4``,
and the file binds it to this model's nodes::

    version: 1
    weights_sha256: 3f0c…            # of these weights; those of another training run have other roles
    roles:
      base_add: {A4: S12L0H0+H1, A3: S13L0H2}
      tricase: {D2: S8L0H2}

``harness locate`` proposes such a file, with the numbers that stand behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from harness.errors import FixtureError, Problem, SpecError
from harness.nodes import Shape, read_nodes
from harness.pins import read_pin
from harness.places import PIN, ROLES, fixture_directory, recipe_of
from harness.recipe import Sha256
from harness.spec_model import DigitName, Nodes, Rate, Text, VariableName
from harness.strict import Spelled, Strict, Version, validate
from harness.yamlfile import read_yaml

RoleName = Annotated[str, Spelled(r"^[a-z][a-z0-9_]{0,39}$", "a role of at most 40 of a-z, 0-9 and _, like base_add")]
Place = Annotated[str, Spelled(r"^[A-Za-z][A-Za-z0-9']{0,19}$", "a place of at most 20 letters and digits, like A4")]
FullName = Annotated[
    str, Spelled(r"^[a-z][a-z0-9_]*\.[A-Za-z][A-Za-z0-9']*$", "a role with its place, like base_add.A4")
]


class Evidence(Strict):
    """What stands behind a role: its variable carried over, on pairs of questions that the search has not seen."""

    variable: VariableName
    digits: list[DigitName]
    pairs: int
    follow: Rate  # share of the pairs in which all the digits follow, and all others stay
    low: Rate  # the ends of its interval, of all roles together
    high: Rate
    agreeing_change: Rate  # share of the pairs in which the variable agrees, and something changes all the same
    searched_follow: Rate  # share in the search, where these nodes were chosen
    next: Nodes | None = None  # the best set there that has none of these nodes, and no more
    next_follow: Rate | None = None


class RolesFile(Strict):
    """The names of a model's nodes."""

    version: Version
    weights_sha256: Sha256 | None = None
    roles: dict[RoleName, dict[Place, Nodes]]
    evidence: dict[FullName, Evidence] = Field({})
    unplaced: dict[FullName, Text] = Field({})


def read_roles(name: str, fixtures: Path) -> RolesFile | None:
    """Return the roles file of the fixture `name`, if it has one, checked against the model's shape.

    Raises:
        HarnessError: no such fixture.
        FixtureError: it cannot be read, names nodes that the model has not, or is of other weights.
    """
    path = fixture_directory(name, fixtures) / ROLES
    if not path.exists():
        return None
    shape = recipe_of(name, fixtures).shape
    try:
        stat = path.stat()
        found = _load_once(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino), shape)
    except OSError:
        found = _load_once.__wrapped__(path, None, shape)  # says what is wrong with it
    except SpecError as error:
        raise FixtureError(*error.problems) from None
    pinned = read_pin(name, fixtures).weights_sha256 if (fixtures / name / PIN).exists() else None
    if found.weights_sha256 is not None and pinned not in (None, found.weights_sha256):
        fix = f"find them anew: harness locate {name}"
        raise FixtureError(
            Problem(f"roles of the weights {pinned[:12]}", f"of {found.weights_sha256[:12]}", fix, str(path))
        )
    return found


@lru_cache(maxsize=256)
def _load_once(path: Path, stamp: object, shape: Shape) -> RolesFile:
    """Return the roles at `path` as they were when it had this `stamp`; a claim about a group reads them per row."""
    document = read_yaml(path)
    found = validate(RolesFile, document, document.data, (), shape)
    document.raise_problems()
    assert found is not None  # no problem was noted, so it is valid
    return found


def shape_of(name: str, fixtures: Path) -> Shape:
    """Return which nodes the fixture `name` has, with their roles.

    Raises:
        HarnessError: no such fixture.
        FixtureError: the recipe or the roles file is wrong.
    """
    shape = recipe_of(name, fixtures).shape
    found = read_roles(name, fixtures)
    if found is None:
        return shape
    roles = {
        f"{role}.{place}": read_nodes(nodes, shape)
        for role, places in found.roles.items()
        for place, nodes in places.items()
    }
    return replace(shape, roles={**dict.fromkeys(found.unplaced, ()), **roles})


def write_roles(found: RolesFile, heading: str) -> str:
    """Return the text of a roles file, which :func:`read_roles` reads."""
    lines = [*(f"# {line}" for line in heading.splitlines()), "version: 1"]
    if found.weights_sha256 is not None:
        lines.append(f'weights_sha256: "{found.weights_sha256}"')  # quoted: it may be digits alone
    lines += ["roles:" if found.roles else "roles: {}"]
    lines += [f"  {role}: {_flow(places)}" for role, places in found.roles.items()]
    if found.evidence:
        lines += ["evidence:"]
        lines += [f"  {role}: {_flow(row.model_dump(exclude_none=True))}" for role, row in found.evidence.items()]
    if found.unplaced:
        lines += ["unplaced:"]
        lines += [f"  {role}: {json.dumps(why)}" for role, why in found.unplaced.items()]
    return "\n".join(lines) + "\n"


def _flow(values: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in values.items()) + "}"


def _scalar(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
