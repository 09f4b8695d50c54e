"""Paths

Wherever a name or a path enters, what climbs out, is absolute, holds a NUL, a line end, a backslash or a colon, is
too long, or is a link outwards is refused, or harmless; a listing of the whole surrounding directory is the same before
and after, but for what was asked for. Free are `--out`, `--harness-report`, `--harness-html`, `--harness-fixtures`,
`--fixtures`, `--recipe`, the checkpoint that is imported, the spec files on the command line and `GITHUB_STEP_SUMMARY`:
an explicit place is the user's choice, and `..` or a link in it is followed. A NUL cannot be in a command line at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.backends.backend_agg
import matplotlib.figure
import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import tiny
import transformer_lens.model_bridge  # noqa: F401
from tiny import BAD_NAMES, random_weights, recipe_text, refusal, save_checkpoint, write_tiny

import harness.judging.bench  # noqa: F401 - pytester forgets what is imported in its runs, and these cannot be twice
from harness.base.errors import SpecError
from harness.cli import main
from harness.specs.fixtures.recipe import load_recipe
from harness.specs.spec_files import load_file

SMALLEST = {"n_digits": 1, "n_layers": 1}
LONG = "x" * 300
CLAIM = {
    "id": "a", "claim": "c", "ablate": "S3L0H0", "method": "zero", "questions": ["1+2", "3+4"], "gate": 0,
    "expect": {"fails": [], "may_fail": ["A1", "A0"], "loss_above": 1.0e-9},
}  # fmt: skip
SPEC = {"version": 1, "fixture": "tiny", "hypotheses": [CLAIM]}
# What is no name, and what leads to the other fixture outside.
CLIMBING = [
    *BAD_NAMES,
    "../../outside/tiny",
    "tiny:stream",
    "C:\\tiny",
    "tiny\r",
    "~",
    "~root",
    "$HOME",
    LONG,
    "%2e%2e",
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with a project, which is where we are, and what is outside of it."""
    monkeypatch.delenv("CI", raising=False)
    project, outside = tmp_path / "project", tmp_path / "outside"
    for directory in (project / "claims", project / "fixtures", outside):
        directory.mkdir(parents=True)
    write_tiny(project / "fixtures", **SMALLEST)
    write_tiny(outside, **SMALLEST)
    write_tiny(tmp_path, "above", **SMALLEST)
    (outside / "precious").write_bytes(b"precious")
    write_spec(project / "claims" / "a.yaml")
    (project / "recipe.yaml").write_text(recipe_text(**SMALLEST))
    save_checkpoint(project / "old.pth", random_weights(tiny.make_recipe(**SMALLEST)))
    monkeypatch.chdir(project)
    return tmp_path


def write_spec(path, **changes):
    path.write_text(json.dumps({**SPEC, **changes}))


def listing(root):
    """Return everything below `root`, links not followed, with what each is; but for locks and reports."""
    found = {}
    for directory, names, files in os.walk(root):
        for path in (Path(directory, name) for name in (*names, *files)):
            if path.name == ".lock" or "/project/reports" in str(path):
                continue
            stat = path.lstat()
            of_file = () if path.name in names else (stat.st_size, stat.st_mtime_ns)
            found[str(path)] = str(path.readlink()) if path.is_symlink() else (stat.st_mode, *of_file)
    return found


def outside(root):
    return {path: what for path, what in listing(root).items() if "/project/" not in path}


def command(capsys, *arguments):
    """Return a command's exit code, after looking that it ended without a traceback and with a line for each problem."""
    try:
        code = main(list(arguments))
    except SystemExit as error:
        code = error.code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert all(line.startswith("harness: ") for line in err.splitlines() if code == 2), err
    return code


def counted(figure, what, results, note=""):
    figure(what, len(results), sum(results.values()), note)
    assert all(results.values()), [name for name, right in results.items() if not right]


# Names.


@pytest.mark.parametrize("key", ["fixture", "fixtures", "than"])
def test_a_fixture_that_a_spec_names_is_one_below_fixtures(place, key, figure, capsys):
    results = {}
    for name in CLIMBING:
        claim = CLAIM | {"fixtures": name} if key == "fixtures" else CLAIM
        if key == "than":
            claim = {"id": "a", "claim": "c", "answer": "whole", "questions": ["1+2"], "than": name,
                     "expect": {"gain_at_least": 0.1}}  # fmt: skip
        write_spec(
            place / "project/claims/a.yaml", hypotheses=[claim], **({"fixture": name} if key == "fixture" else {})
        )
        before = listing(place)
        results[name] = command(capsys, "check", "claims") == 2 and listing(place) == before
    counted(figure, f"`{key}:` of a spec", results, "refused")


def test_a_glob_finds_what_is_below_fixtures_and_nothing_else(place, figure):
    claim = {"id": "a", "claim": "c", "answer": "whole", "questions": ["1+2"], "expect": {"accuracy_at_least": 0.5}}
    path, results = place / "project/claims/a.yaml", {}
    for pattern in ("*", "[!a]*", "../*", "../../outside/*", "/*", "**/*", "*/../*", "../fixtures/*"):
        write_spec(path, hypotheses=[claim | {"fixtures": pattern}])
        try:
            found = load_file(path, place / "project/fixtures")[0].models
        except SpecError:
            found = ()
        results[pattern] = found == (("tiny",) if pattern in ("*", "[!a]*") else ())
    counted(figure, "`fixtures:` of a spec, as globs", results, "what is below fixtures/, or refused")


NAMED = {
    "harness train NAME": lambda name: ["train", name],
    "harness reproduce NAME": lambda name: ["reproduce", name],
    "harness curves NAME": lambda name: ["curves", name],
    "harness import --name": lambda name: ["import", "old.pth", "--recipe", "recipe.yaml", "--name", name],
    "harness import hub:NAME": lambda name: ["import", f"hub:{name}"],
    "harness sweep NAME": lambda name: ["sweep", name],
    "harness ask NAME": lambda name: ["ask", name, "1+2"],
    "harness minimal NAME": lambda name: ["minimal", name],
    "harness new NAME": lambda name: ["new", name, "S3L0H0"],
    "harness attention NAME": lambda name: ["attention", name],
    "harness describe NAME": lambda name: ["describe", name],
    "harness locate NAME": lambda name: ["locate", name],
}


def test_a_fixture_that_a_command_names_is_one_below_fixtures(place, figure, capsys):
    before, results = listing(place), {}
    for what, arguments in NAMED.items():
        for name in CLIMBING:
            results[what, name] = command(capsys, *arguments(name)) == 2
    assert listing(place) == before
    counted(figure, f"names in {len(NAMED)} commands", results, "refused; " + ", ".join(NAMED))


TEXTS = ["../x", "/etc/passwd", "..\\x", "a\0b", "a\nb", "a\x1b[2Jb", "x" * 1001]


@pytest.mark.parametrize("key", ["id", "claim", "source", "tags", "xfail"])
def test_texts_of_a_spec_are_never_places(place, key, figure, capsys):
    """An id becomes an anchor and a name in reports; whatever is said, no file comes of it."""
    results = {}
    for text in TEXTS:
        value = {"tags": [text], "xfail": {"reason": text}}.get(key, text)
        write_spec(place / "project/claims/a.yaml", hypotheses=[CLAIM | {key: value}])
        before = listing(place)
        code = command(capsys, "check", "claims")
        is_text = key in ("claim", "source", "xfail") and text in TEXTS[:3]
        harmless = is_text or (key == "tags" and text == TEXTS[-1])  # a marker may be long
        results[text] = listing(place) == before and (code in (0, 1) if harmless else code == 2)
    counted(figure, f"`{key}:` of a spec", results, "refused" if key == "id" else "refused, or text")


def test_what_a_pin_names_is_never_a_place(place, figure, capsys):
    results = {}
    for name in CLIMBING:
        for key, value in (
            ("name", name),
            ("weights_sha256", name),
            ("provenance", {"source": name, "source_sha256": name}),
        ):
            tiny.edit_pin(place / "project/fixtures/tiny", **{key: value})
            before = listing(place)
            results[key, name] = command(capsys, "check", "claims") == 2 and listing(place) == before
            (place / "project/fixtures/tiny/model.json").write_bytes((place / "outside/tiny/model.json").read_bytes())
    counted(figure, "`name`, hashes and provenance of model.json", results, "refused")


def test_a_recipe_names_no_place_but_on_the_hub(place, figure):
    results, path = {}, place / "project/recipe.yaml"
    names = [*CLIMBING, "https://x/y", "a/../../b", "/a/b", "a//b"]
    for key, allowed in (("repo", ()), ("file", ("tiny.", "x" * 65)), ("revision", ("tiny.", "x" * 65))):
        for name in (name for name in names if name not in allowed):
            path.write_text(recipe_text(**SMALLEST, hub={"repo": "somebody/adds", "file": "old.pth", key: name}))
            refusal(SpecError, load_recipe, path)
            results[key, name] = True
    counted(figure, "`hub: {repo, file, revision}` of a recipe", results, "refused before anything is fetched")


def test_names_in_a_roles_file_are_roles_and_nodes(place, figure, capsys):
    results, roles = {}, place / "project/fixtures/tiny/roles.yaml"
    for name in CLIMBING:
        for file in ({name: {"A1": "S3L0H0"}}, {"add": {name: "S3L0H0"}}, {"add": {"A1": name}}):
            roles.write_text(json.dumps({"version": 1, "roles": file}))
            before = listing(place)
            results[str(file)] = command(capsys, "check", "claims") == 2 and listing(place) == before
    counted(figure, "roles, places and nodes of roles.yaml", results, "refused")


# Paths on the command line.

PATHS = {
    "check FILE": lambda path: ["check", path],
    "check --fixtures": lambda path: ["check", "claims", "--fixtures", path],
    "train --fixtures": lambda path: ["train", "tiny", "--fixtures", path],
    "reproduce --fixtures": lambda path: ["reproduce", "tiny", "--fixtures", path],
    "curves --fixtures": lambda path: ["curves", "tiny", "--fixtures", path],
    "locate --fixtures": lambda path: ["locate", "tiny", "--fixtures", path],
    "import CHECKPOINT": lambda path: ["import", path, "--recipe", "recipe.yaml", "--name", "new"],
    "import --recipe": lambda path: ["import", "old.pth", "--recipe", path, "--name", "new"],
    "import --fixtures": lambda path: ["import", "old.pth", "--recipe", "recipe.yaml", "--name", "new", "--fixtures", path],
    "sweep --out": lambda path: ["sweep", "tiny", "--questions", "[1+2]", "--reference", "[1+2]", "--out", path],
    "new --out": lambda path: ["new", "tiny", "S3L0H0", "--out", path],
    "attention --out": lambda path: ["attention", "tiny", "1+2", "--out", f"{path}.png"],
    "describe --out": lambda path: ["describe", "tiny", "--out", path],
    "diff": lambda path: ["diff", path, path],
    "findings": lambda path: ["findings", path],
}  # fmt: skip


def test_a_path_that_no_system_takes_is_one_line(place, figure, capsys):
    before, results = listing(place), {}
    for what, arguments in PATHS.items():
        for path in (LONG, "/".join([LONG[:200]] * 30), "old.pth/below"):
            results[what, path[:9]] = command(capsys, *arguments(path)) == 2
    assert listing(place) == before
    counted(figure, "paths that are too long, or lead through a file", results, "refused; " + ", ".join(PATHS))


def test_a_nul_cannot_be_in_a_command_line():
    with pytest.raises(ValueError, match="null byte"):
        subprocess.run([sys.executable, "a\0b"], check=False)


def test_an_explicit_place_is_the_users(place, figure, capsys):
    out = place / "outside" / "mine.md"
    arguments = ["sweep", "tiny", "--questions", "[1+2]", "--reference", "[1+2]", "--device=cpu", "--out"]
    before = outside(place)
    right = {}
    for path in (str(out), "../outside/mine.md"):
        right[path] = command(capsys, *arguments, path) == 0 and outside(place).keys() - before.keys() == {str(out)}
        out.unlink()
    counted(figure, "`--out` with an absolute path, or one with `..`", right, "written: the user may choose it")


# Links.


def test_links_in_a_fixture_lead_nowhere(place, figure, capsys):
    """A link is refused, or read and checked by its hash, or a file takes its place; what it leads to stays."""
    results = {}
    trained = {**SMALLEST, "steps": 25}
    for n, file in enumerate(("checkpoint.safetensors", ".lock", "model.safetensors", "model.json", "README.md",
                              "training.csv.gz", "curves-loss-per-digit.png", "roles.yaml")):  # fmt: skip
        for target in ("precious", "nothing"):
            directory = place / "project/fixtures" / f"f{n}{target}"
            directory.mkdir()
            (directory / "recipe.yaml").write_text(recipe_text(**trained))
            (directory / file).symlink_to(place / "outside" / target)
            before = outside(place)
            command(capsys, "train", directory.name, "--device=cpu", "--steps=20")
            command(capsys, "train", directory.name, "--device=cpu", "--steps=20", "--fresh")
            if file == "roles.yaml":
                (place / "project/fixtures/tiny" / file).symlink_to(place / "outside" / target)
                results["kept", target] = command(capsys, "locate", "tiny", "--n=2", "--confirm=2", "--device=cpu") == 2
                command(capsys, "locate", "tiny", "--n=2", "--confirm=2", "--device=cpu", "--force")
                (place / "project/fixtures/tiny" / file).unlink()
            results[file, target] = outside(place) == before
    counted(figure, "links outwards in a fixture, to a file and to nothing, when it is trained or located", results)


def test_weights_or_a_recipe_that_are_links_are_read_and_checked(place, figure, capsys):
    results, directory = {}, place / "project/fixtures/tiny"
    for file in ("model.safetensors", "recipe.yaml", "model.json"):
        for target, code in ((place / "outside/tiny" / file, 0), (place / "outside/precious", 2), (place / "no", 2)):
            kept = (directory / file).read_bytes()
            (directory / file).unlink()
            (directory / file).symlink_to(target)
            before = listing(place)
            results[file, str(target)] = (
                command(capsys, "check", "claims", "--device=cpu") == code and listing(place) == before
            )
            (directory / file).unlink()
            (directory / file).write_bytes(kept)
    counted(
        figure, "weights, recipe or pin that are links outwards", results, "the same bytes are read, others refused"
    )


def test_a_fixture_that_is_a_link_outwards_is_refused(place, figure, capsys):
    (place / "project/fixtures/linked").symlink_to(place / "outside/tiny")
    write_spec(place / "project/claims/a.yaml", fixture="linked")
    before = listing(place)
    results = {what: command(capsys, *arguments("linked")) == 2 for what, arguments in NAMED.items()}
    results["check"] = command(capsys, "check", "claims") == 2
    assert listing(place) == before
    counted(figure, "a fixture that is a link outwards", results, "refused")


# In a pytest run.


@pytest.fixture
def project(place, pytester, monkeypatch):
    """The project, as pytest runs it."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", mpl.get_configdir())
    pytester.chdir()
    monkeypatch.chdir(place / "project")
    pytester._path = place / "project"
    (place / "project/pytest.ini").write_text("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider\n")
    return pytester


def run(project, *arguments):
    result = project.runpytest("claims", "--harness-device=cpu", *arguments)
    text = f"{result.stdout}{result.stderr}"
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    return result


@pytest.mark.parametrize("option", ["--harness-fixtures", "--harness-report", "--harness-html"])
def test_a_path_of_a_pytest_option_that_no_system_takes_is_one_line(place, project, option, figure, many):
    before, results = outside(place), {}
    cases = [("a\0b", 4), (LONG, 2), ("old.pth/below", 2)]
    for path, code in cases[: many(3, 2 if option == "--harness-fixtures" else 1)]:
        results[path] = run(project, f"{option}={path}").ret == code
    assert outside(place) == before
    counted(figure, f"`{option}`: too long, with a NUL, through a file", results, "exit code 2, or 4 of a NUL")


def test_default_reports_do_not_leave_by_a_link(place, project, figure, many):
    results = {}
    for link in ["reports", "reports/hypotheses.md", "reports/hypotheses.json"][: many(3, 1)]:
        path = place / "project" / link
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(place / "outside" if link == "reports" else place / "outside/precious")
        before = outside(place)
        result = run(project)
        result.stdout.fnmatch_lines(["no report written: *: a link that leads outside *; name a place with *"])
        results[link] = result.ret == 0 and outside(place) == before
        path.unlink()
    counted(figure, "a default report whose place is a link outwards", results, "not written, and said so")


def test_default_pictures_do_not_leave_by_a_link(place, figure, capsys):
    (place / "project/attention-tiny.png").symlink_to(place / "outside/precious")
    before = listing(place)
    right = command(capsys, "attention", "tiny", "1+2", "--device=cpu") == 2 and listing(place) == before
    counted(figure, "the default picture of `harness attention` that is a link outwards", {"png": right}, "refused")


def test_a_spec_that_is_a_link_is_judged_and_not_left_out(place, project, figure):
    """A claim that is silently not collected would make a run green that never asked it."""
    write_spec(place / "outside/b.yaml")
    (place / "outside/more").mkdir()
    write_spec(place / "outside/more/c.yaml")
    (place / "project/claims/b.yaml").symlink_to(place / "outside/b.yaml")
    (place / "project/claims/more").symlink_to(place / "outside/more")
    before = outside(place)
    result = run(project)
    result.assert_outcomes(passed=3)
    right = result.ret == 0 and outside(place) == before
    counted(figure, "a spec, or a directory of specs, that is a link outwards", {"b": right, "c": right}, "judged")
