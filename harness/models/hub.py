"""Download published weights from the Hugging Face hub, and check them against the sha256 in the recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.base.errors import FixtureError, Problem
from harness.base.text import shorten
from harness.specs.fixtures.files import FixtureRef, elsewhere
from harness.specs.fixtures.recipe import Hub


def download(hub: Hub, ref: FixtureRef) -> Path:
    """Return the local path of the published weights of a fixture; download them if needed.

    Raises:
        FixtureError: the weights cannot be downloaded, or do not have the sha256 that the recipe pins.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    place = f"hub {hub.repo}, {hub.file}, revision {hub.revision}"
    try:
        path = Path(hf_hub_download(hub.repo, hub.file, revision=hub.revision))
    except (HfHubHTTPError, HFValidationError) as error:  # no such repository, file or revision, or no access
        raise FixtureError(Problem("published weights", _said(error), "check the recipe's `hub`", place)) from None
    except Exception as error:  # any network failure: no route, no name resolution, a broken download
        fix = f"when online, harness import hub:{ref.name}{elsewhere(ref.root)}"
        raise FixtureError(Problem("the hub within reach", _said(error), fix, place)) from None
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if hub.sha256 not in (None, found):
        fix = "nothing was imported; check where the file comes from"
        raise FixtureError(Problem(f"a file of sha256 {hub.sha256}", f"sha256 {found}", fix, place))
    return path


def _said(error: Exception) -> str:
    return shorten(" ".join(str(error).split()) or type(error).__name__, limit=300)
