"""Keeps what the harness prints and writes, so that a rebuilt tree can be compared with the tree before it.

    python tests/frozen.py keep DIRECTORY [--tree TREE] [--python PYTHON] [--only NAME]
    python tests/frozen.py compare OLD NEW

`keep` runs the commands of `OUTPUTS` in a checkout, by the Python of that checkout's own environment. Rates are the
same on any machine; the last bits of a loss may differ, so keep both trees on one machine. `compare` prints each line
that differs, and exits with 1 where any does. `IGNORED` lists what may differ between two runs of one tree.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MUTATED = ["add_d5_l2_h3/heads.yaml", "quick/comparisons.yaml", "signed_subtraction_s0/subtraction.yaml"]
SWEPT = ["add_d5_l2_h3", "quick_d5_l1_s0"]
CLAIMS = ["-m", "pytest", "-p", "no:cacheprovider", "-q"]
# name → the arguments of Python; what goes to the file is its output and exit code
OUTPUTS: dict[str, list[str]] = {
    "claims": [*CLAIMS, "hypotheses/", "--harness-controls", "--harness-html", "OUT/claims.html", "--harness-report", "OUT/claims"],
    "mutants": [*CLAIMS, *(f"hypotheses/{name}" for name in MUTATED), "--harness-mutate", "--harness-coverage", "--harness-report", "OUT/mutants"],
    **{f"sweep-{name}": ["-m", "harness.cli", "sweep", name, "--json"] for name in SWEPT},
    "schema": ["-m", "harness.cli", "schema"],
    "schema-markdown": ["-m", "harness.cli", "schema", "--markdown"],
    "bad-specs": [str(Path(__file__).resolve()), "bad"],
    "exit-codes": ["-m", "pytest", "-p", "no:cacheprovider", "-q", "-p", "frozen", "--frozen-exit-codes", "OUT/exit-codes.json"],
}  # fmt: skip
# Keys of JSON whose values differ between runs or trees, and patterns of text.
IGNORED_KEYS = {"seconds", "version", "command"}
IGNORED_TEXT = [
    r"\d+(\.\d+)? (s|seconds|ms|min)\b", r"(?m)\| +\d+\.\d{3} \|$", r"in \d+\.\d+s( \(\d+:\d\d:\d\d\))?", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?\S*",
    r"(?<=code )sha256 \S+", r"0x[0-9a-f]+", r"/\S*/(?=hypotheses|fixtures|reports|tests|harness)",
]  # fmt: skip


def keep(directory: Path, tree: Path, python: str, only: list[str]) -> None:
    """Run every command of `OUTPUTS` in `tree`, and write what it prints below `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "tests"), str(Path(__file__).resolve().parent)]),
    }
    environment |= {"COLUMNS": "120", "PY_COLORS": "0"}
    for name in only or OUTPUTS:
        command = [part.replace("OUT", str(directory)) for part in OUTPUTS[name]]
        if name == "exit-codes":
            command += [str(path) for path in tests_with_runs(tree)]
        print(f"{name}: {' '.join(command)[:200]}", flush=True)
        done = subprocess.run(
            [python, *command], cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        if name == "exit-codes":  # which tests there are may change; the exit codes are in the JSON
            done.stdout = ""
        (directory / f"{name}.txt").write_text(f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}\n", "utf-8")


def tests_with_runs(tree: Path) -> list[Path]:
    """Return the test files that run pytest inside of a test, wherever they are."""
    files = sorted((tree / "tests").rglob("test_*.py"))
    return [path for path in files if "pytester" in path.read_text("utf-8") and "reliability" not in path.parts]


def bad() -> None:
    """Print what `harness check` says of every bad spec, recipe, pin and roles file, with the exit code."""
    import tempfile
    from contextlib import redirect_stderr

    from harness.cli import main

    corpus = Path.cwd() / "tests" / "bad_specs"
    sha = "0" * 64
    pin = {
        "version": 1, "weights_sha256": sha, "recipe_sha256": sha, "provenance": {"source": "s", "source_sha256": sha},
        "measured": [],
    }  # fmt: skip
    claim = "hypotheses:\n  - {id: a, claim: c, ablate: S12L0H0, questions: varied, expect: {fails: [A4]}}\n"
    with tempfile.TemporaryDirectory() as directory, redirect_stderr(sys.stdout):
        os.chdir(directory)
        shutil.copytree(corpus / "specs", "specs")
        shutil.copytree(corpus / "fixtures", "fixtures")
        for path in sorted(Path("specs").rglob("*.yaml")):
            print(f"{path}: exit code {main(['check', str(path)])}")
        for kind, file in ("recipes", "recipe.yaml"), ("roles", "roles.yaml"), ("pins", "model.json"):
            for path in sorted(p for p in (corpus / kind).iterdir() if p.suffix in (".yaml", ".json")):
                fixture = Path(kind, path.stem)
                shutil.copytree(corpus / "fixtures" / "d5", fixture)
                (fixture / "model.json").write_text(json.dumps({**pin, "name": path.stem}), "utf-8")
                shutil.copy(path, fixture / file)
                spec = Path(f"{kind}-{path.stem}.yaml")
                spec.write_text(f"version: 1\nfixture: {path.stem}\n{claim}", "utf-8")
                print(f"{path.name}: exit code {main(['check', str(spec), '--fixtures', kind])}")


def compare(old: Path, new: Path) -> int:
    """Print what differs between two directories that `keep` wrote, and return the exit code.

    JSON may have new keys, which are counted; every value that was there must be the same.
    """
    differ = 0
    names = sorted({path.name for path in [*old.iterdir(), *new.iterdir()]} - {".harness.lock"})
    for name in names:
        if name.endswith(".json") and (old / name).is_file() and (new / name).is_file():
            added: Counter[str] = Counter()
            values = [json.loads((side / name).read_text("utf-8")) for side in (old, new)]
            lines = list(_changed(*values, "", added))
            note = f"; new keys: {dict(added)}" if added else ""
        else:
            sides = [normalised(side / name) for side in (old, new)]
            lines, note = list(difflib.unified_diff(*sides, f"old/{name}", f"new/{name}", lineterm="", n=0)), ""
        print(f"{name}: {'equal' if not lines else f'{len(lines)} lines of difference'}{note}")
        print("".join(f"{line[:400]}\n" for line in lines[:60]), end="")
        differ += bool(lines)
    return int(differ > 0)


def _changed(old: Any, new: Any, where: str, added: Counter[str]) -> Iterator[str]:
    """Yield a line for each value of `old` that `new` does not have; count the keys that only `new` has."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() - IGNORED_KEYS:
            if key in new:
                yield from _changed(old[key], new[key], f"{where}.{key}", added)
            else:
                yield f"{where}.{key}: gone"
        added.update(new.keys() - old.keys() - IGNORED_KEYS)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new, strict=True)):
            yield from _changed(*pair, f"{where}[{i}]", added)
    elif old != new:
        yield f"{where}: {old!r} → {new!r}"


def normalised(path: Path) -> list[str]:
    """Return the lines of a kept file without what `IGNORED_TEXT` names, and without the directory's own name."""
    if not path.is_file():
        return ["not there"]
    text = re.sub(rf"\S*/{path.parent.name}/", "…/", path.read_text("utf-8"))
    for pattern in IGNORED_TEXT:
        text = re.sub(pattern, "…", text)
    return [re.sub(r"[ \-]{2,}", " ", line) for line in text.splitlines()]  # a column is as wide as its widest text


# What follows is a pytest plugin (`-p frozen`), which writes the exit codes of all runs that tests make of pytest.


def pytest_addoption(parser):  # type: ignore[no-untyped-def]
    """Add the option that names the file."""
    parser.addoption("--frozen-exit-codes", type=Path)


def pytest_configure(config):  # type: ignore[no-untyped-def]
    """Record the exit code of each run by the name of the test that made it; a test may stand in another file later."""
    out = config.getoption("--frozen-exit-codes")
    if out is None:
        return
    import pytest

    codes: dict[str, list[int]] = defaultdict(list)
    for way in ("run", "inline_run"):
        setattr(pytest.Pytester, way, _recording(getattr(pytest.Pytester, way), codes))
    config.add_cleanup(lambda: out.write_text(json.dumps(codes, indent=1, sort_keys=True) + "\n", "utf-8"))


def _recording(run, codes):  # type: ignore[no-untyped-def]
    def wrapped(self, *arguments, **options):  # type: ignore[no-untyped-def]
        found = run(self, *arguments, **options)
        codes[self._request.node.name].append(int(found.ret))
        return found

    return wrapped


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("bad")
    command = commands.add_parser("keep")
    command.add_argument("directory", type=Path)
    command.add_argument("--tree", type=Path, default=ROOT)
    command.add_argument("--python", default=sys.executable)
    command.add_argument("--only", action="append", default=[], choices=list(OUTPUTS))
    command = commands.add_parser("compare")
    command.add_argument("old", type=Path)
    command.add_argument("new", type=Path)
    options = parser.parse_args()
    if options.command == "bad":
        bad()
    elif options.command == "keep":
        keep(options.directory.resolve(), options.tree.resolve(), options.python, options.only)
    else:
        sys.exit(compare(options.old, options.new))
