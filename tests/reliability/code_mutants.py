"""Change the code a little, 300 times: do the tests notice? Run by `make code-mutants`; slow, so not a test itself.

mutmut makes the mutants and tries each in a fork, with those tests of the module's files that come through the changed
function. It leaves decorated functions alone, so those that run without gradients get their decorator further down.
What came of it goes to code_mutants.json, which `test_code_mutants.py` reads.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import date
from importlib.metadata import version
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RESULTS = Path(__file__).with_suffix(".json")
MUTMUT = str(Path(sys.executable).parent / "mutmut")
SAMPLE, SEED = 300, 0

# A module, and the files of tests that try it, but for the slow tests in them, which -m and -k below leave out.
TESTS = {
    "specs.nodes": ["specs/test_nodes", "specs/test_spec_files"],
    "specs.spec_files": ["specs/test_spec_files"],
    "engines.interventions": ["engines/test_cone", "engines/test_hooks"],
    "engines.cone": ["engines/test_cone"],
    "judging.verdict": ["judging/test_verdict", "judging/test_patch"],
    "judging.verbs.ablate": ["judging/test_verdict", "planted/test_controls", "planted/test_mutants"],
    "tasks.addition.arithmetic": ["tasks/test_arithmetic"],
}
DECORATOR = "@torch.inference_mode()\n"
CONFIG = """[mutmut]
source_paths = harness
only_mutate = {path}
also_copy =
    conftest.py
    fixtures
    hypotheses
process_isolation = forkserver
timeout_multiplier = 2
timeout_constant = 40
use_git_change_detection = false
pytest_add_cli_args =
    -p
    no:cacheprovider
    -p
    unshrunk
    -m
    not slow
    -k
    not real_model and not any_nodes_of_any_small_model
    --hypothesis-seed=0
pytest_add_cli_args_test_selection =
{tests}
"""

# A mutant is dead with the first example that fails: none is made smaller.
UNSHRUNK = """from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("unshrunk")
"""


def path_of(module: str) -> str:
    """Return the path of a module, given its name without ``harness.``."""
    return f"harness/{module.replace('.', '/')}.py"


def undecorated(text: str) -> str:
    """Return a module's text with the decorator at the end of the file instead of above each function."""
    names = re.findall(rf"^{re.escape(DECORATOR)}def (\w+)", text, re.M)
    later = "".join(f"{name} = torch.inference_mode()({name})\n" for name in names)
    return text.replace(DECORATOR, "") + f"\n\n{later}" * bool(names)


def prepare(work: Path) -> None:
    """Lay out the repository below `work`: links, but for the modules to be changed."""
    for path in ROOT.iterdir():
        if path.name not in ("harness", "setup.cfg", "mutants", ".git"):
            (work / path.name).symlink_to(path)
    shutil.copytree(ROOT / "harness", work / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    (work / "plugins").mkdir()
    (work / "plugins" / "unshrunk.py").write_text(UNSHRUNK, "utf-8")
    for module in TESTS:
        path = work / path_of(module)
        path.write_text(undecorated(path.read_text("utf-8")), "utf-8")


def mutants_of(module: str, work: Path) -> list[str]:
    """Return the names of all mutants of a module."""
    from mutmut.mutation.file_mutation import mutate_file_contents

    path = work / path_of(module)
    names = mutate_file_contents(str(path), path.read_text("utf-8")).mutant_names
    return [f"harness.{module}.{name}" for name in names]


def mutmut(work: Path, *arguments: str) -> str:
    """Return what a mutmut command prints."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": str(work / "plugins")}
    done = subprocess.run([MUTMUT, *arguments], cwd=work, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(done.stdout[-5000:] + done.stderr[-5000:])
    return done.stdout


def trial(module: str, names: list[str], work: Path) -> dict[str, object]:
    """Return what came of a module's mutants: how many were killed, and what changed in those that were not."""
    tests = "".join(f"    tests/{test}.py\n" for test in TESTS[module])
    (work / "setup.cfg").write_text(CONFIG.format(path=path_of(module), tests=tests), "utf-8")
    shutil.rmtree(work / "mutants", ignore_errors=True)
    mutmut(work, "run", "--max-children", "1", *names)
    status = dict(re.findall(r"^    (\S+): (.+)$", mutmut(work, "results", "--all", "true"), re.M))
    status = {name: status[name] for name in names}
    alive = [name for name in names if status[name] not in ("killed", "timeout")]
    return {
        "tried": len(names),
        "came out": dict(Counter(status.values())),
        "survivors": {name: _changed(mutmut(work, "show", name)) for name in alive},
    }


def _changed(diff: str) -> list[str]:
    """Return the lines of a diff that differ."""
    lines = diff.splitlines()
    return [re.sub(r"\s+", " ", line) for line in lines if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]


def main(modules: list[str]) -> None:
    """Try the sampled mutants of these modules, of all if none is named."""
    found = json.loads(RESULTS.read_text("utf-8")) if modules and RESULTS.is_file() else {"modules": {}}
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        prepare(work)
        (work / "setup.cfg").write_text(CONFIG.format(path="none", tests=""), "utf-8")
        os.chdir(work)  # mutmut looks for its settings here
        every = {module: mutants_of(module, work) for module in TESTS}
        sampled = set(random.Random(SEED).sample(sorted(chain(*every.values())), SAMPLE))
        print({module: f"{len(sampled & set(names))} of {len(names)}" for module, names in every.items()})
        for module in modules or TESTS:
            names = [name for name in every[module] if name in sampled]
            result = trial(module, names, work)
            found["modules"][module] = {"date": date.today().isoformat(), "mutants": len(every[module]), **result}
            found |= {"mutmut": version("mutmut"), "seed": SEED}
            print(module, result["tried"], result["came out"], flush=True)
            RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
