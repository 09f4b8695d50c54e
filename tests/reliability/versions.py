"""Install the oldest and the newest versions that pyproject.toml allows, and run the tests with each.

Run by `make versions`: oldest.txt and newest.txt beside this file say which versions. What came of it goes to
versions.json, which `test_versions.py` reads. A Python without a torch build for the CPU tries what needs no torch.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = HERE / "versions.json"
PACKAGES = ["pytest-xdist", "pytest-benchmark", "hypothesis", "jsonschema"]  # what the tests need besides

# Each line is one run of pytest.
WHOLE = [
    "tests/specs/test_spec_files.py tests/specs/test_nodes.py tests/judging/test_verdict.py tests/reporting/test_page.py tests/specs/test_schema.py",
    "tests/engines/test_cone.py",
    "tests/engines/test_hooks.py",
    "tests/plugin/test_plugin.py",
    "tests/models/test_fixtures.py",
    "tests/training/test_checkpoints.py",
    "tests/training/test_curves.py",
    "hypotheses/add_d5_l1_h3 hypotheses/quick/comparisons.yaml",
]
TORCH_FREE = [
    "tests/base/test_yamlfile.py tests/tasks/test_layout.py tests/specs/test_siblings.py tests/specs/test_nodes.py tests/specs/test_spec_files.py "
    "tests/specs/test_schema.py tests/base/test_intervals.py"
]
# What is tried: with which versions, on which Python, and with torch or without.
ENVIRONMENTS = {
    "oldest": ("oldest.txt", "python3.11", True),
    "newest": ("newest.txt", "python3.11", True),
    "newest, Python 3.12": ("newest.txt", "python3.12", False),
    "newest, Python 3.13": ("newest.txt", "python3.13", False),
}


def install(pins: Path, python: str, with_torch: bool, venv: Path) -> Path:
    """Return the interpreter of a virtual environment with those versions, and the harness as it stands here."""
    run = venv / "bin" / "python"
    if not run.exists():
        subprocess.run([python, "-m", "venv", str(venv)], check=True)
    pip = [str(run), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(pins)]
    if with_torch:
        subprocess.run([*pip, "-e", str(ROOT), *PACKAGES], check=True)
    else:
        torch_free = ["pydantic", "ruamel.yaml", "jinja2", "filelock", "pytest", "tqdm", "tabulate", "scipy"]
        subprocess.run([*pip, *torch_free, *PACKAGES], check=True)
        subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
    return run


def installed(python: Path) -> dict[str, str]:
    """Return the version of each package that an interpreter has, by its name in small letters."""
    command = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {package["name"].lower().replace("_", "-"): package["version"].partition("+")[0] for package in listed}


def outcome(python: Path, part: str, with_torch: bool) -> dict[str, int]:
    """Return how many tests of one run passed, failed and were skipped; nothing is collected: one failed."""
    arguments = ["-q", "-p", "no:cacheprovider", "-m", "not slow", *([] if with_torch else ["--noconftest"])]
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [str(python), "-m", "pytest", *arguments, f"--junitxml={report.name}", *part.split()]
        done = subprocess.run(command, cwd=ROOT, check=False)
        total = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        if done.returncode in (0, 1):
            for suite in ElementTree.parse(report.name).iter("testsuite"):
                total = {key: count + int(suite.get(key, 0)) for key, count in total.items()}
    failed = total["failures"] + total["errors"] or int(done.returncode != 0)
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}


def main(wanted: list[str]) -> int:
    """Try the environments and parts that are named, all by default; return how many parts did not come out right."""
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    bad = 0
    for name, (pins, python, with_torch) in ENVIRONMENTS.items():
        if wanted and name not in wanted:
            continue
        if not (
            shutil.which(python) and subprocess.run([python, "-V"], check=False, capture_output=True).returncode == 0
        ):
            print(f"{name}: no {python} on this machine; what stands in {RESULTS.name} stays")
            continue
        run = install(HERE / pins, python, with_torch, ROOT / "build" / "versions" / name.replace(", Python ", "-"))
        parts = WHOLE if with_torch else TORCH_FREE
        packages = installed(run)
        version = subprocess.run([str(run), "-V"], check=True, capture_output=True, text=True).stdout.split()[1]
        old = found.get(name, {})
        same = old.get("packages") == packages and old.get("python") == version
        kept = {part: counts for part, counts in old.get("parts", {}).items() if same and part in parts}
        entry = {"python": version, "torch": with_torch, "packages": packages, "parts": kept}
        for part in parts:
            if any(other in parts for other in wanted) and part not in wanted:
                continue
            counts = outcome(run, part, with_torch)
            print(f"{name}: {part}: {counts}", flush=True)
            bad += counts["failed"] > 0
            entry["parts"][part] = {**counts, "date": date.today().isoformat()}
            found[name] = entry
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return bad


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
