"""What README and docs tell people to type is typed; what they show is what comes out; their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from own import CLAIMS, RECIPE, TASK
from paths import ROOT
from tiny import one_thread
from tiny_lm import save_model

from harness.cli import command as cli
from harness.specs.key_reference import spec_reference
from harness.specs.verbs.registry import VERBS, parser_of

DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [path for path in DOCS if path.name != "CONTRIBUTING.md"]
# Not run, each with why; what `harness` is to do must still be said in a way that it understands.
NOT_RUN = {
    ".venv/bin/pytest hypotheses/": "every claim: minutes; CI does it",
    "pytest hypotheses/ -k staircase -n 2 --junitxml=out.xml": "two more processes; test_plugin.py does it on a small spec",
    "pytest hypotheses/ --harness-device cuda --harness-fixtures DIR": "needs a GPU, and a directory of one's own",
    "pytest hypotheses/ --harness-engine hooks": "every claim, slowly: minutes",
    "harness check hypotheses/ --json": "every claim: minutes",
    "harness check --all": "the same; test_checking.py does it on a small project",
    "harness train --all": "trains what a notebook trains in hours; test_checking.py trains small ones",
    "harness train --all --ray HEAD:6379": "needs a cluster; test_cluster.py starts one",
    "harness check --all --ray HEAD:6379": "needs a cluster; test_cluster.py starts one",
    "harness train tiny": "ten seconds of training; test_runs.py trains",
    "harness reproduce 'quick_*'": "trains 17 models",
    "harness curves add_d5_l1_h3": "nine figures; test_curves.py draws them",
    "harness sweep add_d5_l2_h3": "the full-size model; test_cli.py sweeps it",
    "harness sweep add_d5_l2_h3 --questions '{n: 500, seed: 1, where: {case: MC1}}' --method zero --json": "the same",
    "harness minimal quick_d5_l2_s0": "a search of many rounds; tests/planted/test_minimal.py searches a smaller model",
    "harness attention add_d5_l2_h3 --mean '{n: 1000}' --out mean.svg": "1,000 questions through hooks; test_looking.py",
    "harness import old.pth --recipe recipe.yaml --name my_model": "a checkpoint of one's own; test_cli.py imports one",
    "harness diff old.json new.json": "two reports of one's own; tests/planted/test_roles.py makes two",
    "harness import hub:add_d5_l2_h3_published": "needs the network",
    "harness fetch mine --from path:model": "a model of one's own; below, in a project of its own",
    "harness fetch mine": "the same",
    "harness prompts names --fixture mine": "the same",
    'harness ask mine "When Mary and Tom went to the park, Tom gave a drink to" --task names --ablate L1H3@END '
    "--corrupt abc": "the same",
    "harness attention mine --task names --layers L1": "the same",
    "harness describe mine --task names": "the same",
    "harness minimal mine --task names --nodes L1 --corrupt abc --n 40 --metric prob": "the same",
    "harness new mine L1H3@END --task names --corrupt abc": "the same",
    "harness sweep mine --task names --nodes L0-L1@END --corrupt abc --prompts '{n: 40, seed: 101}' --resume sweep.jsonl": "the same",
    "harness check hypotheses/mine.yaml": "the same",
    "harness train letters_s0 --allow-code": "a fixture that the page makes; below, in a project of its own",
    "harness sweep letters_s0 --allow-code": "the same",
    "harness import weights.safetensors --name induction_gpt2_s0 --recipe fixtures/induction_gpt2_s0/recipe.yaml --allow-code": "weights of one's own; test_user_model.py pins some",
}


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def commands(path):
    """Return the harness and pytest commands of a document, in order, each with the exit code that it names."""
    found = []
    for block in blocks(path, "console"):
        for line in re.findall(r"^\s*\$ (.*)", block, re.MULTILINE):
            command, _, comment = line.partition(" #")
            code = re.search(r"exits with (\d)", comment)
            if re.match(r"(harness|pytest|\.venv/bin/(harness|pytest)) ", command):
                found.append((command.strip(), int(code[1]) if code else 0))
    return found


def run(command, capsys):
    """Return the exit code of a command, and all that it printed."""
    program, *arguments = shlex.split(command)
    if program == "harness":
        code = cli.main(arguments)
        return code, "".join(capsys.readouterr())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Be in a directory that looks like the repository, and can be written to."""
    for name in ("fixtures", "hypotheses", "harness", "conftest.py", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.name)
def test_its_commands_do_what_it_says(path, workplace, capsys):
    for block in blocks(path, "yaml"):
        if name := re.match(r"# (\w+\.yaml)\n", block):
            Path(name[1]).write_text(block, "utf-8")
    said = ""
    with one_thread():
        for command, wanted in dict(commands(path)).items():
            if command not in NOT_RUN:
                code, printed = run(command, capsys)
                assert code == wanted, f"{command}: {printed}"
                said += printed
    if path.name == "tutorial.md":
        said += Path("third.yaml").read_text("utf-8")
        shown = [*blocks(path, "text"), *(b for b in blocks(path, "yaml") if b.startswith("# Drafted"))]
        assert len(shown) > 5
        for block in shown:
            assert block in said


@pytest.mark.slow
def test_ones_own_task_is_trained_and_judged_as_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = {"fixtures/letters.py": TASK, "fixtures/letters_s0/recipe.yaml": RECIPE}
    files["hypotheses/letters_s0/first.yaml"] = CLAIMS
    page = ROOT / "docs" / "own-model.md"
    for name, text in files.items():
        assert f"`{name}`" in page.read_text("utf-8")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    with one_thread():
        for command, _ in commands(page):
            if "letters_s0" in command:
                code, printed = run(command, capsys)
                assert code == 0, f"{command}: {printed}"
        code, printed = run("harness check hypotheses --allow-code", capsys)
    assert code == 0
    assert "2 claims evaluated: 2 supported" in printed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_language_model_of_ones_own_is_judged_as_the_page_says(tmp_path, monkeypatch, capsys, kind):
    """On random weights, which do not do the task: every claim is read, bound and measured, and its gate says so."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "language-models.md"
    save_model(tmp_path / "model", kind)
    for block in blocks(page, "yaml"):
        name = Path(re.match(r"# ([\w/]+\.yaml)\n", block)[1])
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(
            re.sub(r"^(    (ablate|attend|patch|keep): )", r"    gate: 0\n\1", block, flags=re.MULTILINE), "utf-8"
        )
    assert len(blocks(page, "yaml")) == 2
    with one_thread():
        for command, _ in commands(page):
            code, printed = run(command, capsys)
            assert code == (1 if " check " in command else 0), f"{command}: {printed}"
    assert "5 claims evaluated" in printed
    assert "error" not in printed


def test_what_is_not_run_is_written_somewhere_and_understood():
    written = {command for path in DOCS for command, _ in commands(path)}
    assert NOT_RUN.keys() <= written
    for command in NOT_RUN:
        program, *arguments = shlex.split(command)
        if program == "harness":
            assert callable(cli._parser().parse_args(arguments).run)


def test_the_commands_are_found():
    found = [command for path in RUN for command, _ in commands(path)]
    assert len(found) > 25
    assert ("harness check second.yaml", 1) in commands(ROOT / "docs" / "tutorial.md")
    assert sum(command not in NOT_RUN for command in found) > 10


def anchors(path):
    """Return the anchors of a document's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_its_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(there), target


def test_every_document_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(docs/([\w.-]+)\)", readme))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"findings.md"} <= linked


def test_the_reference_is_fresh_and_tells_what_every_key_means():
    text = (ROOT / "docs" / "spec-reference.md").read_text("utf-8")
    assert text == spec_reference(), "run `make schema`"
    rows = re.findall(r"^\| \**`(\w+)`\** \|.*\| (.*) \|$", text, re.MULTILINE)
    assert all(meaning for _, meaning in rows)
    keys = {key for key, _ in rows}
    assert keys >= {key for verb in VERBS for key in parser_of(verb).model.model_fields} | {
        "each",
        "fails",
        "n",
        "reason",
    }
    assert "## `ablate`" in text
