"""``harness import hub:NAME``: what somebody published, fetched from a stand-in of the hub, checked, converted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from evil import EVIL
from huggingface_hub import constants
from paths import ROOT
from safetensors.torch import load_file, save
from tiny import contents, make_recipe, random_weights, recipe_text, refusal, save_checkpoint

from harness.base.errors import FixtureError, SpecError
from harness.cli import main
from harness.models.fixtures import load_fixture
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.pins import read_pin
from harness.specs.fixtures.recipe import load_recipe

SMALLEST = {"n_digits": 1, "n_layers": 1}  # measured in half a second
REPO, FILE = "somebody/adds", "weights/old.pth"
HUB = {"repo": REPO, "file": FILE}
PLACE = f"hub {REPO}, {FILE}, revision main"
COMMIT = hashlib.sha1(b"a commit").hexdigest()
FIXTURES = Path("fixtures")
PUBLISHED = FIXTURES / "published"
COMMAND = "harness import hub:published"


class StandIn(ThreadingHTTPServer):
    """What of the hub's API a download needs: files of repositories, at revisions, by HEAD and GET."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}  # repository → revision → file → content
        self.asked: list[str] = []  # "HEAD /somebody/adds/resolve/main/old.pth"
        self.breaks_off = 0  # how many downloads, from now on, end half-way
        self.on_another_host = False  # as the hub does with large files
        self.answers: int | None = None  # every request, whatever it is for
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, content: bytes, file: str = FILE, revision: str = "main") -> str:
        """Put a file on the hub and return its sha256."""
        self.repos.setdefault(REPO, {}).setdefault(revision, {})[file] = content
        return hashlib.sha256(content).hexdigest()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    @property
    def downloads(self) -> int:
        return sum(line.startswith("GET") for line in self.asked)


class _Answer(BaseHTTPRequestHandler):
    server: StandIn

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server
        if "/resolve/" not in self.path and not self.path.startswith("/elsewhere"):
            self._refuse(404, "")  # the library asks for other things now and then
            return
        hub.asked.append(f"{self.command} {self.path}")
        if hub.answers is not None:
            self._refuse(hub.answers, "")
            return
        repo, _, rest = self.path.removeprefix("/elsewhere").removeprefix("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        revisions = hub.repos.get(repo)
        if revisions is None:
            self._refuse(401, "RepoNotFound")  # 401: it may be a private one
        elif revision not in revisions:
            self._refuse(404, "RevisionNotFound")
        elif file not in revisions[revision]:
            self._refuse(404, "EntryNotFound")
        elif hub.on_another_host and not self.path.startswith("/elsewhere"):
            self._redirect(revisions[revision][file])
        else:
            self._send(revisions[revision][file])

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _redirect(self, content: bytes) -> None:
        self.send_response(302)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET" and self.server.breaks_off:
            self.server.breaks_off -= 1
            self.wfile.write(content[start : (start + len(content)) // 2])
        elif self.command == "GET":
            self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in of the hub that this process takes for it, with an empty cache; a stay in a fresh directory."""
    monkeypatch.chdir(tmp_path)
    hub = StandIn()
    believed = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
    }
    for name, value in believed.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between one try and the next
    huggingface_hub.close_session()
    write_recipe(**HUB)
    yield hub
    hub.close()
    huggingface_hub.close_session()


def write_recipe(**hub):
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    (PUBLISHED / "recipe.yaml").write_text(recipe_text(**SMALLEST, **({"hub": hub} if hub else {})), "utf-8")


def weights(seed=0):
    return random_weights(make_recipe(**SMALLEST), seed)


def checkpoint(seed=0):
    """Return an old state dict's bytes."""
    save_checkpoint(Path("made.pth"), weights(seed))
    raw = Path("made.pth").read_bytes()
    Path("made.pth").unlink()
    return raw


def run(*arguments):
    return main(["import", *arguments, "--device=cpu"])


def assert_imported(capsys):
    """The import goes well; return what it printed."""
    assert run("hub:published") == 0
    out, err = capsys.readouterr()
    assert "harness: " not in err
    return out


def assert_refused(capsys, *arguments):
    """The import ends in exit code 2 and one line, with nothing written; return the line."""
    before = contents(FIXTURES)
    assert run(*(arguments or ("hub:published",))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    line = err.splitlines()[-1]
    assert line.startswith("harness: ")
    assert err.count("harness: ") == 1  # other lines are the library's own
    assert "Traceback" not in err
    assert contents(FIXTURES) == before
    return line.removeprefix("harness: ")


# What comes out.


def test_published_weights_become_a_fixture_and_the_hash_to_pin_is_printed(hub, capsys):
    sha256 = hub.publish(checkpoint())
    out = assert_imported(capsys)
    assert {name: weight.tolist() for name, weight in load_file(PUBLISHED / "model.safetensors").items()} == {
        name: weight.tolist() for name, weight in weights().items()
    }
    pin = read_pin(FixtureRef("published", FIXTURES))
    assert load_fixture("published", FIXTURES, "cpu").weights_sha256 == pin.weights_sha256
    first, second, *hint = out.splitlines()
    assert first == f"{PUBLISHED}: weights sha256 {pin.weights_sha256}"
    assert second.endswith(f"{pin.measured[0].right} of 1000 uniform questions right; README.md there has the rest")
    assert hint == [
        "The recipe pins no sha256 of the published file. "
        f"To have it checked, add to `hub` in {PUBLISHED / 'recipe.yaml'}:",
        f"  sha256: {sha256}",
    ]


def test_pin_and_card_say_where_the_weights_come_from(hub, capsys):
    sha256 = hub.publish(checkpoint(), revision="v1.0")
    write_recipe(**HUB, revision="v1.0")
    before = (PUBLISHED / "recipe.yaml").read_bytes()
    assert run("hub:published", "--note", "Trained by somebody.") == 0
    provenance = read_pin(FixtureRef("published", FIXTURES)).provenance
    assert provenance.source == f"{REPO}/{FILE} (v1.0) on the Hugging Face hub"
    assert provenance.source_sha256 == sha256
    assert provenance.note == "Trained by somebody."
    card = (PUBLISHED / "README.md").read_text("utf-8")
    assert all(text in card for text in (provenance.source, sha256, "Trained by somebody."))
    assert (PUBLISHED / "recipe.yaml").read_bytes() == before
    assert hub.asked == [f"{method} /{REPO}/resolve/v1.0/{FILE}" for method in ("HEAD", "GET")]


def test_the_printed_hash_in_the_recipe_checks_the_file_and_is_asked_for_no_more(hub, capsys):
    hub.publish(checkpoint())
    printed = assert_imported(capsys).splitlines()[-1].split("sha256: ")[1]
    for file in ("model.json", "model.safetensors"):
        (PUBLISHED / file).unlink()
    write_recipe(**HUB, sha256=printed)
    out = assert_imported(capsys)
    assert len(out.splitlines()) == 2
    assert "pins no sha256" not in out
    assert load_fixture("published", FIXTURES, "cpu")


def test_what_the_recipe_says_of_the_hub_makes_no_weights_stale(hub):
    sha256 = hub.publish(checkpoint())
    assert run("hub:published") == 0
    imported = load_fixture("published", FIXTURES, "cpu").weights_sha256
    for said in ({**HUB, "sha256": sha256}, {**HUB, "revision": COMMIT}, {"repo": "a/b", "file": "moved.pth"}, {}):
        write_recipe(**said)
        assert load_fixture("published", FIXTURES, "cpu").weights_sha256 == imported
    path = PUBLISHED / "recipe.yaml"
    path.write_text(path.read_text("utf-8").replace("seed: 0", "seed: 1"), "utf-8")
    assert "the weights are stale" in refusal(FixtureError, load_fixture, "published", FIXTURES, "cpu")


@pytest.mark.parametrize("on_another_host", [False, True])
def test_a_safetensors_file_is_published_as_well(hub, capsys, on_another_host):
    hub.on_another_host = on_another_host
    sha256 = hub.publish(save(weights(3)), "new.safetensors")
    write_recipe(repo=REPO, file="new.safetensors", sha256=sha256)
    assert_imported(capsys)
    assert load_file(PUBLISHED / "model.safetensors")["embed.W_E"].equal(weights(3)["embed.W_E"])
    assert hub.asked[-1].startswith("GET /elsewhere/" if on_another_host else f"GET /{REPO}/")


def test_what_was_fetched_once_is_imported_without_a_network(hub, capsys, monkeypatch):
    hub.publish(checkpoint())
    assert_imported(capsys)
    for file in ("model.json", "model.safetensors"):
        (PUBLISHED / file).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_imported(capsys)
    assert hub.downloads == 1


def test_a_command_of_its_own_takes_the_hub_and_the_cache_from_the_environment(hub, tmp_path):
    """As a user starts it; the other tests here tell the library by its constants."""
    sha256 = hub.publish(checkpoint())
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "harness.cli", "import", "hub:published", "--device=cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"  sha256: {sha256}\n")
    assert "Traceback" not in done.stderr
    assert read_pin(FixtureRef("published", FIXTURES)).provenance.source_sha256 == sha256
    assert any(path.name == "old.pth" for path in (tmp_path / "home").rglob("*"))


# What is refused.


def test_another_file_than_the_pinned_one_is_refused_with_both_hashes(hub, capsys):
    found, pinned = hub.publish(checkpoint()), "0" * 64
    write_recipe(**HUB, sha256=pinned)
    fix = "nothing was imported; check where the file comes from"
    assert assert_refused(capsys) == f"{PLACE}: expected a file of sha256 {pinned}, found sha256 {found}; {fix}"


def test_a_file_that_was_altered_where_it_was_kept_is_refused(hub, capsys):
    write_recipe(**HUB, sha256=hub.publish(checkpoint()))
    (kept,) = (Path(huggingface_hub.hf_hub_download(REPO, FILE)),)
    raw = kept.read_bytes()
    kept.resolve().write_bytes(raw[:-1] + b"x")
    assert f"found sha256 {hashlib.sha256(kept.read_bytes()).hexdigest()};" in assert_refused(capsys)
    kept.resolve().write_bytes(raw)
    assert_imported(capsys)


def test_the_pinned_hash_is_checked_before_the_file_is_read(hub, capsys):
    hub.publish(b"no checkpoint at all")
    write_recipe(**HUB, sha256="0" * 64)
    assert "expected a file of sha256 0000" in assert_refused(capsys)
    write_recipe(**HUB)
    assert "expected a " in (line := assert_refused(capsys))
    assert "sha256" not in line


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ({"repo": "nobody/adds"}, "Repository Not Found"),
        ({"file": "weights/new.pth"}, "Entry Not Found"),
        ({"revision": "v2.0"}, "Revision Not Found"),
    ],
    ids=["repository", "file", "revision"],
)
def test_what_the_hub_has_not_is_named(hub, capsys, there, missing):
    hub.publish(checkpoint())
    asked = {**HUB, "revision": "main", **there}
    write_recipe(**asked)
    line = assert_refused(capsys)
    place = f"hub {asked['repo']}, {asked['file']}, revision {asked['revision']}"
    assert line.startswith(f"{place}: expected published weights, found ")
    assert line.endswith("; check the recipe's `hub`")
    assert missing in line
    assert hub.downloads == 0


@pytest.mark.parametrize("trouble", ["closed", "HF_HUB_OFFLINE=1", "503", "a proxy's page"])
def test_offline_the_command_for_later_is_named(hub, capsys, monkeypatch, trouble):
    hub.publish(checkpoint())
    if trouble == "closed":
        hub.close()
    elif trouble == "HF_HUB_OFFLINE=1":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        hub.answers = 503 if trouble == "503" else 200
    line = assert_refused(capsys)
    assert line.startswith(f"{PLACE}: expected the hub within reach, found ")
    assert line.endswith(f"; when online, {COMMAND}")
    assert hub.downloads == 0


def test_the_command_for_later_works_with_fixtures_elsewhere_too(hub, capsys, monkeypatch):
    PUBLISHED.parent.rename("elsewhere")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert assert_refused(capsys, "hub:published", "--fixtures=elsewhere").endswith(f"{COMMAND} --fixtures elsewhere")


@pytest.mark.parametrize("host", ["one host", "another host"])
def test_a_download_that_breaks_off_leaves_nothing_and_is_taken_up_again(hub, capsys, host):
    sha256 = hub.publish(checkpoint())
    hub.on_another_host = host == "another host"
    hub.breaks_off = 1000
    line = assert_refused(capsys)
    assert line.startswith(f"{PLACE}: expected the hub within reach, found ")
    assert line.endswith(f"; when online, {COMMAND}")
    assert hub.downloads > 1
    hub.breaks_off = 1
    write_recipe(**HUB, sha256=sha256)
    assert_imported(capsys)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_nothing_in_a_published_file_is_executed(hub, capsys, evil):
    stream = io.BytesIO()
    torch.save({"embed.W_E": evil}, stream)
    sha256 = hub.publish(stream.getvalue())
    write_recipe(**HUB, sha256=sha256)  # somebody pinned it, even
    line = assert_refused(capsys)
    assert "expected a file that holds only tensors" in line
    assert "nothing was executed" in line
    assert not Path("canary").exists()
    torch.load(io.BytesIO(stream.getvalue()), weights_only=False)
    assert Path("canary").exists()


def test_published_weights_of_other_sizes_are_refused(hub, capsys):
    save_checkpoint(Path("made.pth"), random_weights(make_recipe(**{**SMALLEST, "d_mlp": 12})))
    hub.publish(Path("made.pth").read_bytes())
    before = contents(FIXTURES)
    assert run("hub:published") == 2
    _, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("harness: ")]
    assert any("expected blocks.0.mlp.b_in of shape (16,), found shape (12,); check the" in line for line in lines)
    assert contents(FIXTURES) == before


def test_a_recipe_without_published_weights_is_refused(hub, capsys):
    write_recipe()
    expected = f"{PUBLISHED / 'recipe.yaml'}: expected the key `hub`, found none; name a repository and file"
    assert assert_refused(capsys) == expected
    assert hub.asked == []


@pytest.mark.parametrize("there", ["model.json", "model.safetensors"])
def test_weights_that_are_there_are_not_written_over_nor_fetched_again(hub, capsys, there):
    hub.publish(checkpoint())
    (PUBLISHED / there).write_bytes(b"mine")
    expected = f"{PUBLISHED}: expected a fixture without weights, found {there} already there; "
    assert assert_refused(capsys).startswith(expected)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["hub:published", "--recipe=r.yaml"], "expected hub:NAME alone, found --recipe or --name as well; leave them"),
        (["hub:published", "--name=mine"], "expected hub:NAME alone, found --recipe or --name as well; leave them out"),
        (["made.pth"], "expected --recipe and --name with a file, found none; add them, or import hub:NAME"),
        (["made.pth", "--name=mine"], "expected --recipe and --name with a file, found "),
        (["made.pth", "--recipe=r.yaml"], "expected --recipe and --name with a file, found "),
        (["hub:publish"], "expected a fixture in fixtures, found publish; did you mean 'published'?"),
        (["hub:"], "expected a fixture name of letters, digits, `_`, `-` and `.`, found ''; name a directory below"),
        (["hub:../published"], "expected a fixture name of letters, digits, `_`, `-` and `.`, found ../published;"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_do_not_go_together_are_refused(hub, capsys, arguments, problem):
    hub.publish(checkpoint())
    Path("made.pth").write_bytes(checkpoint())
    Path("r.yaml").write_text(recipe_text(**SMALLEST), "utf-8")
    assert assert_refused(capsys, *arguments).startswith(problem)
    assert hub.asked == []


# What a recipe may say of the hub.


BAD_PATHS = [
    "../old.pth", "weights/../../old.pth", "weights/..", "/etc/passwd", "//host/old.pth", "weights//old.pth",
    "weights/", "./old.pth", "weights\\old.pth", "C:/old.pth", "old.pth\0", "old\n.pth", "old.pth\n", "", "old.pth?a=b",
    "https://example.org/old.pth", "x" * 201,
]  # fmt: skip
BAD_REPOS = [
    "adds", "", "/adds", "somebody/", "somebody/adds/more", "../adds", "somebody/..", "somebody/.adds", "some body/adds",
    "somebody\0/adds", "somebody/adds\n", "https://huggingface.co/somebody/adds", "s/" + "x" * 95,
]  # fmt: skip
# These have the right shape, but the library refuses to ask for them, so that no network would help.
NEVER_REPOS = ["somebody/ad--ds", "somebody/ad..ds", "somebody/adds.git", "somebody/adds-", "somebody/adds."]
BAD_HASHES = ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "sha256:" + "0" * 64]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("file", path) for path in BAD_PATHS),
        *(("revision", path) for path in BAD_PATHS),
        *(("repo", repo) for repo in BAD_REPOS),
        *(("sha256", sha256) for sha256 in BAD_HASHES),
        *((key, value) for key in ("repo", "file", "revision", "sha256") for value in (7, True, ["a/b"], {"a": "b"})),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_bad_place_on_the_hub_is_refused_where_it_stands(hub, capsys, key, value):
    write_recipe(**{**HUB, key: value})
    line = assert_refused(capsys)
    col = (PUBLISHED / "recipe.yaml").read_text("utf-8").splitlines()[9].index(f'"{key}": ') + len(f'"{key}": ') + 1
    assert line.startswith(f"{PUBLISHED / 'recipe.yaml'}:10:{col}: expected ")
    assert line.endswith((f"; correct `{key}`", "; quote it"))
    assert line.isprintable()
    assert hub.asked == []


@pytest.mark.parametrize("repo", NEVER_REPOS)
def test_a_repository_that_no_network_can_reach_is_the_recipes_fault(hub, capsys, repo):
    write_recipe(repo=repo, file=FILE)
    line = assert_refused(capsys)
    assert "when online" not in line
    assert "the hub within reach" not in line


@pytest.mark.parametrize(
    ("hub_value", "col", "problem"),
    [
        ({**HUB, "branch": "main"}, 59, "expected a known key, found branch; known keys: file, repo, revision, sha256"),
        ({**HUB, "sha": "0" * 64}, 59, "expected a known key, found sha; did you mean 'sha256'?"),
        ({"file": FILE}, 6, "expected the key `repo`, found none; add `repo: …`"),
        ({"repo": REPO}, 6, "expected the key `file`, found none; add `file: …`"),
        ("somebody/adds", 6, "expected a mapping, found somebody/adds; correct `hub`"),
        ([], 6, "expected a mapping, found an empty list; correct `hub`"),
    ],
)
def test_a_place_on_the_hub_of_another_shape_is_refused_where_it_stands(hub, capsys, hub_value, col, problem):
    path = PUBLISHED / "recipe.yaml"
    path.write_text(recipe_text(**SMALLEST, hub=hub_value), "utf-8")
    expected = f"{path}:10:{col}: {problem}"
    assert refusal(SpecError, load_recipe, path) == expected
    assert assert_refused(capsys) == expected


@pytest.mark.parametrize(
    "said",
    [
        HUB,
        {"repo": "PhilipQuirke/Accurate5DigitAddition", "file": "add_d5_l2_h3_seed129000_train30K.pth"},
        {"repo": "a_b.c-d/1-e_f.g", "file": "a/b-c/d_e.f.safetensors"},
        *({**HUB, "revision": revision} for revision in ("refs/pr/1", "v1.0.2", COMMIT, "my-branch_2")),
        {**HUB, "sha256": "0123456789abcdef" * 4},
    ],
    ids=json.dumps,
)
def test_the_places_that_the_hub_has_are_accepted(hub, said):
    write_recipe(**said)
    assert load_recipe(PUBLISHED / "recipe.yaml").hub.model_dump(exclude_unset=True) == said


def test_a_branch_of_the_hub_with_a_slash_is_fetched(hub, capsys):
    hub.publish(checkpoint(), revision="refs%2Fpr%2F1")  # as it stands in the request
    write_recipe(**HUB, revision="refs/pr/1")
    assert_imported(capsys)
    assert (
        read_pin(FixtureRef("published", FIXTURES)).provenance.source
        == f"{REPO}/{FILE} (refs/pr/1) on the Hugging Face hub"
    )
