"""Published weights: a file on the Hugging Face hub → a file here, with the sha256 that its recipe pins."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.errors import FixtureError, Problem, shorten
from harness.places import elsewhere
from harness.recipe import Hub


def download(hub: Hub, name: str, fixtures: Path) -> Path:
    """Return where the published weights of the fixture `name` are, after fetching them if need be.

    Raises:
        FixtureError: they cannot be fetched, or are not the pinned ones.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    place = f"hub {hub.repo}, {hub.file}, revision {hub.revision}"
    try:
        path = Path(hf_hub_download(hub.repo, hub.file, revision=hub.revision))
    except (HfHubHTTPError, HFValidationError) as error:  # no such repository, file or revision, or not allowed
        raise FixtureError(Problem("published weights", _said(error), "check the recipe's `hub`", place)) from None
    except Exception as error:  # whatever a network can do: no route, a name that is not resolved, a broken download
        fix = f"when online, harness import hub:{name}{elsewhere(fixtures)}"
        raise FixtureError(Problem("the hub within reach", _said(error), fix, place)) from None
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if hub.sha256 not in (None, found):
        fix = "nothing was imported; check where the file comes from"
        raise FixtureError(Problem(f"a file of sha256 {hub.sha256}", f"sha256 {found}", fix, place))
    return path


def _said(error: Exception) -> str:
    return shorten(" ".join(str(error).split()) or type(error).__name__, limit=300)
