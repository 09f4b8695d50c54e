"""Bad weights

Weights that are not the pinned ones are refused with the file and both hashes; weights whose hash was made to match
load as finite float32 tensors of the recipe's names and shapes, or are refused; and whoever's file it is, no command
writes over it. No checkpoint is executed, and no module of the harness could: what executes data is named nowhere.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import random
from pathlib import Path

import pytest
import tiny
import torch
from paths import ROOT as REPOSITORY
from tiny import BAD_TENSORS, contents, make_recipe, random_weights, refusal, save_checkpoint, write_tiny

from harness.base.errors import FixtureError
from harness.cli import main
from harness.models.bridge import check_tensors
from harness.models.fixtures import load_fixture
from harness.models.storage import serialise
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.pins import read_pin
from harness.training.checkpoints import import_checkpoint
from harness.training.runs import ensure_trained, train_fixture

SMALLEST = {"n_digits": 1, "n_layers": 1}
ROOT = Path("fixtures")
TINY = ROOT / "tiny"
WEIGHTS = TINY / "model.safetensors"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load():
    return load_fixture("tiny", ROOT, "cpu")


def stamped(directory):
    """Return every file but locks, with its bytes and the time that it was written."""
    return {
        name: (raw, (directory / name).stat().st_mtime_ns)
        for name, raw in contents(directory).items()
        if not name.endswith(".lock")
    }


def flips(raw, n, seed):
    """Yield `raw` with one byte changed, `n` times, half of them in the header."""
    draw, header = random.Random(seed), 8 + int.from_bytes(raw[:8], "little")
    for i in range(n):
        changed = bytearray(raw)
        changed[draw.randrange(header if i % 2 else len(raw))] ^= draw.randrange(1, 256)
        yield bytes(changed)


def refused_with_both_hashes(raw):
    """Return whether the file is refused with its name and both hashes, and is what it was afterwards."""
    WEIGHTS.write_bytes(raw)
    before, pinned = stamped(ROOT), read_pin(FixtureRef("tiny", ROOT)).weights_sha256
    text = refusal(FixtureError, load)
    said = all(part in text for part in (str(WEIGHTS), pinned, hashlib.sha256(raw).hexdigest()))
    return said and stamped(ROOT) == before


def test_a_byte_that_is_changed_is_noticed(many, figure):
    write_tiny(ROOT)
    found = [refused_with_both_hashes(raw) for raw in flips(WEIGHTS.read_bytes(), many(300, 40), seed=0)]
    figure("a byte changed: refused with the file and both hashes, the file untouched", len(found), sum(found))
    assert all(found)


def test_a_file_that_is_cut_short_is_noticed(many, figure):
    write_tiny(ROOT)
    raw, n = WEIGHTS.read_bytes(), many(100, 20)
    found = [refused_with_both_hashes(raw[: len(raw) * i // n]) for i in range(n)]
    figure("cut short: refused in the same way", len(found), sum(found))
    assert all(found)


def test_a_byte_that_is_changed_with_a_hash_made_to_match_loads_or_is_refused(many, figure):
    write_tiny(ROOT)
    loaded, refused = 0, 0
    for raw in flips(WEIGHTS.read_bytes(), many(1000, 60), seed=1):
        tiny.pin_bytes(TINY, raw)
        try:
            fixture = load()
        except FixtureError:
            refused += 1
        else:
            check_tensors(fixture.weights, fixture.recipe, "what was loaded")
            loaded += 1
    note = f"{loaded:,} loaded, all finite float32 of the recipe's shapes; {refused:,} refused; no other end"
    figure("a byte changed, and the pin's hash made to match", loaded + refused, loaded + refused, note)
    assert loaded > 0
    assert refused > 0


def swapped(weights):
    one, other = "blocks.0.attn.W_Q", "unembed.W_U"
    return {**weights, one: weights[other], other: weights[one]}


def test_wrong_tensors_are_named_though_their_hash_is_right(figure):
    whole = random_weights(make_recipe())
    cases = {kind: (tiny.spoil(whole, kind), said) for kind, (_, _, said) in BAD_TENSORS.items()}
    cases["swapped"] = swapped(whole), "expected blocks.0.attn.W_Q of shape (2, 8, 4), found shape (8, 13); "
    cases["none at all"] = {}, "expected the tensor embed.W_E, found none"
    found = {}
    for kind, (weights, said) in cases.items():
        write_tiny(ROOT, kind.replace(" ", "_"), weights=weights)
        before = stamped(ROOT)
        text = refusal(FixtureError, load_fixture, kind.replace(" ", "_"), ROOT, "cpu")
        found[kind] = said in text and stamped(ROOT) == before
    figure("wrong tensors: named", len(found), sum(found.values()), ", ".join(found))
    assert all(found.values()), found


def test_two_tensors_of_one_shape_that_are_swapped_change_the_hash(figure):
    whole = write_tiny(ROOT)
    one, other = "blocks.0.attn.W_Q", "blocks.1.attn.W_Q"
    right = refused_with_both_hashes(serialise({**whole, one: whole[other], other: whole[one]}))
    figure("two tensors of one shape swapped: refused by the hash", 1, right)
    assert right


# Whoever's file it is, it stays.

COMMANDS = {
    "harness train": lambda: train_fixture(FixtureRef("tiny", ROOT), device="cpu"),
    "harness train --resume": lambda: train_fixture(FixtureRef("tiny", ROOT), how="resume", device="cpu"),
    "harness train --fresh": lambda: train_fixture(FixtureRef("tiny", ROOT), how="fresh", device="cpu"),
    "harness train --steps 1": lambda: train_fixture(FixtureRef("tiny", ROOT), until=1, device="cpu"),
    **{
        f"pytest --harness-train={policy}": lambda policy=policy: (
            ensure_trained(FixtureRef("tiny", ROOT), policy, "cpu"),
            load(),
        )
        for policy in ("missing", "never", "always")
    },
    "harness reproduce": lambda: main(["reproduce", "tiny", "--device=cpu"]),
    "harness import": lambda: import_checkpoint(Path("old.pth"), TINY / "recipe.yaml", "tiny", ROOT),
}
STATES = {
    "altered": lambda: WEIGHTS.write_bytes(b"somebody's"),
    "of another run": lambda: WEIGHTS.write_bytes(serialise(random_weights(make_recipe(**SMALLEST), 7))),
    "without a pin": (TINY / "model.json").unlink,
    "with a broken pin": lambda: (TINY / "model.json").write_text("{"),
}


def say_trained_here():
    """Make the pin one of weights that were trained here, which `--fresh` and `always` may replace."""
    pin = json.loads((TINY / "model.json").read_text("utf-8"))
    del pin["provenance"]
    trained = {"steps": 1, "seconds": 0.1, "loss": 2.0, "device": "cpu", "threads": 1, "torch": "2", "harness": "0"}
    (TINY / "model.json").write_text(json.dumps({**pin, "trained": trained}))
    assert read_pin(FixtureRef("tiny", ROOT)).trained is not None


@pytest.mark.parametrize("origin", ["imported", "trained here"])
def test_no_command_writes_over_somebodys_file(origin, figure, capsys):
    tried, right = 0, 0
    for change in STATES.values():
        for name, command in COMMANDS.items():
            write_tiny(ROOT, **SMALLEST)
            if origin == "trained here":
                say_trained_here()
            change()
            save_checkpoint(Path("old.pth"), random_weights(make_recipe(**SMALLEST), 9))
            before = stamped(ROOT)
            try:
                refused = command() == 2  # the command's exit code
            except FixtureError:
                refused = True
            assert refused, name
            assert stamped(ROOT) == before, name
            tried, right = tried + 1, right + 1
            for file in TINY.iterdir():
                file.unlink()
            TINY.rmdir()
    note = f"{len(COMMANDS)} commands × weights {', '.join(STATES)}"
    figure(f"weights {origin}, then changed: refused, every file and its time as before", tried, right, note)


# Nothing is executed.


class Evil:
    """Unpickling one calls the function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


EVIL = [Evil(os.system, "touch canary"), Evil(exec, "open('canary', 'w')"), Evil(open, "canary", "w")]
WRITERS = {
    "a zip": lambda evil, path: torch.save({"embed.W_E": evil}, path),
    "the old format": lambda evil, path: torch.save({"embed.W_E": evil}, path, _use_new_zipfile_serialization=False),
    **{
        f"a bare pickle of protocol {n}": lambda evil, path, n=n: path.write_bytes(pickle.dumps(evil, protocol=n))
        for n in range(6)
    },
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_pickle_is_executed_whatever_its_name(figure):
    write_tiny(ROOT, **SMALLEST)
    found = []
    for write in WRITERS.values():
        for evil in EVIL:
            for name in ("old.pth", "old.safetensors"):
                write(evil, Path(name))
                refusal(FixtureError, import_checkpoint, Path(name), TINY / "recipe.yaml", "new", ROOT)
                found.append(not Path("canary").exists() and not (ROOT / "new").exists())
            write(evil, WEIGHTS)
            tiny.pin_bytes(TINY, WEIGHTS.read_bytes())
            refusal(FixtureError, load)
            found.append(not Path("canary").exists())
    note = f"{', '.join(WRITERS)}; as .pth, .safetensors, and model.safetensors with a true pin"
    figure("a pickle that would write a canary: refused, no canary", len(found), sum(found), note)
    assert all(found)


def test_the_canary_is_there_once_such_a_pickle_is_executed():
    for evil in EVIL:
        WRITERS["a zip"](evil, Path("old.pth"))
        torch.load("old.pth", weights_only=False)
        assert Path("canary").exists()
        Path("canary").unlink()


# What executes data is named nowhere.

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "builtins", "runpy", "code", "pty"}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {("os", "system"), ("os", "popen"), ("os", "exec"), ("os", "spawn"), ("pandas", "read_pickle")}


def executes(source):
    """Return what in a module's source could execute data, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        what = ""
        if isinstance(node, ast.Import):
            what = next((name.name for name in node.names if name.name.partition(".")[0] in MODULES), "")
        elif isinstance(node, ast.ImportFrom):
            named = {(node.module, name.name) for name in node.names} & ATTRIBUTES
            what = str(node.module) if str(node.module).partition(".")[0] in MODULES or named else ""
        elif isinstance(node, ast.Name):
            what = node.id if node.id in CALLS else ""
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of = [start for module, start in ATTRIBUTES if module == node.value.id and node.attr.startswith(start)]
            what = f"{node.value.id}.{node.attr}" if of else ""
        elif isinstance(node, ast.keyword):
            value = getattr(node.value, "value", None)
            bad = {"shell": value is not False, "weights_only": value is not True, "allow_pickle": value is not False}
            what = f"{node.arg}={value}" if bad.get(node.arg) else ""
            what = what or (f"YAML of type {value}" if node.arg == "typ" and value != "safe" else "")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            what = "" if any(keyword.arg == "weights_only" for keyword in node.keywords) else "torch.load"
        if what:
            found.append(f"{getattr(node, 'lineno', 0)}: {what}")
    return found


PLANTED = [
    "eval('1')", "exec(text)", "compile(text, 'x', 'exec')", "__import__(name)", "import pickle", "import pickle as p",
    "from pickle import loads", "import yaml", "from yaml import load", "import marshal", "import shelve", "import dill",
    "import os\nos.system('x')", "import os\nos.popen('x')", "from os import system", "import os\nos.execv('x', [])",
    "import torch\ntorch.load(f)", "import torch\ntorch.load(f, weights_only=False)",
    "import torch\ntorch.load(f, weights_only=trusted)", "import subprocess\nsubprocess.run('x', shell=True)",
    "import subprocess\nsubprocess.run('x', shell=asked)", "import numpy\nnumpy.load(f, allow_pickle=True)",
    "YAML(typ='unsafe')", "run = eval", "def f():\n    from pickle import load", "import builtins", "import runpy",
]  # fmt: skip
INNOCENT = [
    "model.eval()", "import re\nre.compile('x')", "import torch\ntorch.load(f, weights_only=True)", "YAML(typ='safe')",
    "'eval, exec and pickle'", "import importlib\nimportlib.import_module('x')", "import torch\ntorch.compile(f)",
    "import subprocess\nsubprocess.run(['x'])", "# import pickle",
]  # fmt: skip


def test_what_executes_data_is_in_no_module(figure):
    modules = sorted((REPOSITORY / "harness").rglob("*.py"))
    found = [f"{path.name}:{what}" for path in modules for what in executes(path.read_text("utf-8"))]
    note = "eval, exec, compile, pickle, marshal, shelve, yaml, os.system, shell=True, weights_only other than True, …"
    figure("modules that name nothing which executes data", len(modules), len(modules) - len(found), note)
    assert len(modules) > 50
    assert not found


def test_a_module_that_does_would_be_caught_and_no_other(figure):
    missed = [source for source in PLANTED if not executes(source)]
    accused = [source for source in INNOCENT if executes(source)]
    tried = len(PLANTED) + len(INNOCENT)
    note = f"{len(PLANTED)} that are caught, {len(INNOCENT)} that are none"
    figure("planted violations", tried, tried - len(missed) - len(accused), note)
    assert not missed
    assert not accused
