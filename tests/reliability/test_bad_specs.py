"""Bad specs, recipes, roles and pins.

Each file of `tests/bad_specs` is wrong in a way of its own, and what is said of it stands on top of it: where, what was
expected, what was found, and what to do. Each is read by itself, and all together by the commands; what is odd as
bytes is made on the spot. A mutation is a shipped file with bytes flipped or put in, cut off, with lines or keys dropped,
doubled or swapped, or with a value of another kind. Whatever is read has a second of the processor's time and 200 MB.
"""

from __future__ import annotations

import ast
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path

import pytest
from paths import FIXTURES, HYPOTHESES, ROOT
from reading import SOUND, limit, outcomes

from harness.base.errors import FixtureError, HarnessError
from harness.cli import main
from harness.specs.fixtures.files import PIN, RECIPE, ROLES, FixtureRef, list_fixtures, recipe_of
from harness.specs.fixtures.pins import read_pin
from harness.specs.fixtures.roles import read_roles

BAD = ROOT / "tests" / "bad_specs"
FILES = {"recipes": RECIPE, "roles": ROLES, "pins": PIN}
READ = {"recipes": recipe_of, "roles": read_roles, "pins": read_pin}
SPECS = sorted((BAD / "specs").rglob("*.yaml"))
SHA = "0" * 64
GOOD_PIN = {
    "version": 1, "name": "NAME", "weights_sha256": SHA, "recipe_sha256": SHA,
    "provenance": {"source": "s", "source_sha256": SHA}, "measured": [],
}  # fmt: skip
CLAIM = "  - {id: a, claim: c, ablate: S12L0H0, questions: varied, expect: {fails: [A4]}}\n"
HEAD = "version: 1\nfixture: d5\nhypotheses:\n"


def bad(kind):
    return sorted(path for path in (BAD / kind).iterdir() if path.suffix in (".yaml", ".json"))


def written_on(path):
    """Return what is said of a bad file, according to itself: a line for each problem, and whether there are more."""
    if path.suffix == ".json":
        return [path.with_suffix(".txt").read_text("utf-8").strip()], False
    lines = []
    for line in path.read_text("utf-8").split("\n"):
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return [line for line in lines if line != "…"], "…" in lines


def agrees(said, path, shown):
    """Return whether these lines are what a bad file has on top, with its path in front."""
    expected, more = written_on(path)
    whole = [f"{shown}:{'' if line[0].isdigit() else ' '}{line}" for line in expected]
    return whole == (said[: len(whole)] if more else said) and (len(said) > len(whole) or not more) and bool(whole)


@pytest.fixture(scope="module", params=["specs", *FILES])
def project(request, tmp_path_factory):
    """A directory where all bad files of a kind have their place: as specs, or in fixtures, each with a spec about it."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "specs":
        shutil.copytree(BAD / "fixtures", root / "fixtures")
        shutil.copytree(BAD / "specs", root / "specs")
        return request.param, root
    (root / "specs").mkdir()
    for path in bad(request.param):
        fixture = root / "fixtures" / path.stem
        shutil.copytree(BAD / "fixtures" / "d5", fixture)
        (fixture / PIN).write_text(json.dumps({**GOOD_PIN, "name": path.stem}), "utf-8")
        shutil.copy(path, fixture / FILES[request.param])
        (root / "specs" / f"{path.stem}.yaml").write_text(HEAD.replace("d5", path.stem) + CLAIM, "utf-8")
    return request.param, root


def expected_lines(kind, where):
    """Return every line that the bad files of a kind have on top, as a run of `where` in their project shows it."""
    paths = [path for path in SPECS if str(path.relative_to(BAD)).startswith(where)] if kind == "specs" else bad(kind)
    shown = [
        (path, path.relative_to(BAD) if kind == "specs" else f"fixtures/{path.stem}/{FILES[kind]}") for path in paths
    ]
    return [
        f"{where}:{'' if line[0].isdigit() else ' '}{line}" for path, where in shown for line in written_on(path)[0]
    ]


def run(root, *arguments):
    """Return the exit code, the output and the lines of error of a command that is run in a project."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PY_COLORS": "0", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `harness check` says of each bad spec, and which lines of the reading modules all bad files come by."""
    elsewhere, said, reached = tmp_path_factory.mktemp("told"), {}, set()
    inside = {str(ROOT / "harness" / f"{module}.py"): module for module in READING}

    def trace(frame, event, arg):
        module = inside.get(frame.f_code.co_filename)
        if module is None:
            return None

        def lines(frame, event, arg):
            reached.add((module, frame.f_lineno))
            return lines

        return lines

    before, here = sys.gettrace(), Path.cwd()
    os.chdir(BAD)
    sys.settrace(trace)
    try:
        for path in SPECS:
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                code = main(["check", str(path.relative_to(BAD)), "--fixtures", "fixtures"])
            said[path] = (code, out.getvalue(), err.getvalue())
        for kind, read in READ.items():
            for path in bad(kind):
                fixture = elsewhere / kind / path.stem
                fixture.mkdir(parents=True)
                (fixture / RECIPE).write_text(SOUND, "utf-8")
                (fixture / PIN).write_text(json.dumps({**GOOD_PIN, "name": path.stem}), "utf-8")
                shutil.copy(path, fixture / FILES[kind])
                with pytest.raises(HarnessError):
                    read(FixtureRef(path.stem, elsewhere / kind))
    finally:
        sys.settrace(before)
        os.chdir(here)
    return said, reached


def test_a_bad_spec_by_itself_is_told_as_it_stands_on_top_of_it(told, figure):
    said, _ = told
    wrong = [
        f"{code} {out} {err}"
        for path, (code, out, err) in said.items()
        if code != 2
        or out
        or not agrees([line.removeprefix("harness: ") for line in err.splitlines()], path, path.relative_to(BAD))
    ]
    figure("bad specs, `harness check FILE`: exit code 2 and the lines on top of it", len(said), len(said) - len(wrong))
    assert not wrong, "\n".join(wrong)
    assert len(said) >= 150


@pytest.mark.parametrize("project", [*FILES], indirect=True)
def test_a_bad_file_of_a_fixture_is_told_as_it_stands_on_top_of_it(project, monkeypatch, figure):
    kind, root = project
    monkeypatch.chdir(root)
    paths, wrong = bad(kind), []
    for path in paths:
        with pytest.raises(FixtureError) as caught:
            READ[kind](FixtureRef(path.stem, Path("fixtures")))
        said = [str(problem) for problem in caught.value.problems]
        if not agrees(said, path, f"fixtures/{path.stem}/{FILES[kind]}"):
            wrong.append("\n".join(said))
    figure(f"bad {FILES[kind]}: the lines on top of it", len(paths), len(paths) - len(wrong))
    assert not wrong, "\n".join(wrong)


def test_the_commands_tell_all_of_them_and_exit_with_2(project, many, figure):
    kind, root = project
    if not many(full=True, quick=kind == "specs"):
        pytest.skip("by `make reliability`; here each is read by itself, above")
    some = many(full="specs", quick="specs/several_runs")
    expected = expected_lines(kind, some)
    code, _, err = run(root, "harness.cli", "check", some, "--fixtures", "fixtures", "--device=cpu")
    assert code == 2
    said = {line.removeprefix("harness: ").split(".yaml::a: ")[-1] for line in err}
    assert [line for line in expected if line not in said] == []
    for where, workers in ("specs", []), (some, ["-n", "2"]):
        code, out, err = run(
            root, "pytest", where, "--harness-fixtures=fixtures", "--harness-device=cpu", "-p", "harness.plugin",
            "-p", "no:cacheprovider", "-o", "harness_paths=specs", *workers,
        )  # fmt: skip
        assert code == 2, out
        due = expected_lines(kind, where)
        assert [line for line in due if line not in out] == []
        command = " ".join(["pytest", *workers])
        figure(f"lines about bad {kind} in one run of `{command}`: exit code 2", len(due), len(due))


def test_pytest_refuses_each_by_itself(many, figure, pytester):
    shutil.copytree(BAD / "fixtures", pytester.path / "fixtures")
    shutil.copytree(BAD / "specs", pytester.path / "specs")
    chosen = random.Random(0).sample(SPECS, many(full=len(SPECS), quick=2))
    wrong = []
    for path in chosen:
        shown = path.relative_to(BAD)
        result = pytester.runpytest_inprocess(str(shown), "-p", "harness.plugin", "-p", "no:cacheprovider")
        text = result.stdout.str() + result.stderr.str()
        first = f"{shown}:{written_on(path)[0][0]}"
        if result.ret != 2 or first not in text or "Traceback" in text or "INTERNALERROR" in text:
            wrong.append(text)
    figure("bad specs, `pytest FILE`: exit code 2, the first line, no traceback", len(chosen), len(chosen) - len(wrong))
    assert not wrong, "\n".join(wrong)


REFUSING = {"Problem", "of", "report", "_report", "_refuse", "PydanticCustomError"}
READING = (
    "base/yamlfile", "base/validation", "specs/templates", "specs/keys", "specs/schema", "specs/spec_files",
    "specs/parsing", "specs/verbs/ablate", "specs/verbs/keep", "specs/verbs/patch", "specs/verbs/answer",
    "specs/verbs/attend", "specs/verbs/learn", "specs/across", "specs/nodes", "specs/fixtures/recipe",
    "specs/fixtures/pins", "specs/fixtures/roles", "specs/metrics",
    "base/ranges",
    "tasks/questions", "tasks/addition/strata", "tasks/addition/variables", "tasks/addition/layout",
    "tasks/addition/question_sets",
)  # fmt: skip
# What no file of these can bring about, by what it begins with, and where it is tested.
ELSEWHERE = {
    "spec files (*.yaml)": "a directory without any, in test_messages.py",
    "a file something else": "a pipe, in test_yamlfile.py",
    "a readable file": "no such file, in test_yamlfile.py and test_fixtures.py",
    "UTF-8 text": "bytes, below",
    "at most {MAX_BYTES // 1024} KiB of YAML": "bytes, below",
    "printable text": "bytes, below",
    "n_digits from 1": "a Addition made by hand, in test_layout.py; the recipe says so first",
    "a position, as {shape": "prompts of unequal length, in test_unlike_prompts.py",
    "a position {', '": "named positions, in test_unlike_prompts.py",
    "a layer, a head, M or R": "named positions, in test_unlike_prompts.py",
    "('keep', key) expected": "prompts of unequal length, in test_unlike_prompts.py",
    "('questions', 'n') expected str(asked.n)": "a gate on `prefers`, in test_patch_from.py",
    "('attend', 'node') expected model": "prompts of unequal length, in test_everywhere.py",
    "h.verb expected": "prompts of unequal length, in test_everywhere.py",
    "_GRAMMAR an empty list": "nodes without any, in test_nodes.py; the spec says so first",
    "weights pinned in": "no weights, in test_fixtures.py",
    "a directory of fixtures": "no such directory, in test_fixtures.py",
    "a fixture in {fixtures} {name}, but there": "a directory of fixtures without any, in test_fixtures.py",
    "a fixture inside": "a link, in test_fixtures.py",
    "('version',) *new": "a newer format, in test_spec_files.py and test_recipe.py",
    "*new str(path)": "a newer format, in test_fixtures.py",
}


def refusals():
    """Return every place where the modules that read files refuse something: module and lines, and what is expected."""
    found = {}
    for module in READING:
        for node in ast.walk(ast.parse((ROOT / "harness" / f"{module}.py").read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in REFUSING:
                text = " ".join(ast.unparse(part).lstrip("f").strip("'\"") for part in node.args)
                found[module, node.lineno] = (node.end_lineno, text)
    return found


def test_every_refusal_has_a_file(told):
    """Where the harness can refuse something, one of the files must have come by."""
    _, reached = told
    missed = [
        f"{module}.py:{first}: {text}"
        for (module, first), (last, text) in refusals().items()
        if not any((module, line) in reached for line in range(first, last + 1))
        and not text.startswith(tuple(ELSEWHERE))
    ]
    assert missed == [], "write a file in tests/bad_specs for each"


GOOD = f"{HEAD}{CLAIM}"
MANY_BYTES = 10 * 2**20
# What cannot well be kept as a file: bytes, and what is said of them; "" where they are fine.
ODD = {
    "latin-1": (GOOD.replace("claim: c", "claim: caf\xe9").encode("latin-1"), "4:23: expected UTF-8 text, found the byte 0xe9; save the file as UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), "1:1: expected UTF-8 text, found the byte 0xff; save the file as UTF-8"),
    "utf-16 without a mark": (GOOD.encode("utf-16-le"), "1:2: expected printable text, found the character U+0000; remove it"),
    "overlong UTF-8": (GOOD.encode() + b"# \xc0\xaf\n", "5:3: expected UTF-8 text, found the byte 0xc0; save the file as UTF-8"),
    "a surrogate in UTF-8": (GOOD.encode() + b"# \xed\xa0\x80\n", "5:3: expected UTF-8 text, found the byte 0xed; save the file as UTF-8"),
    "cut within a character": (GOOD.encode() + "# é".encode()[:-1], "5:3: expected UTF-8 text, found the byte 0xc3; save the file as UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), ""),
    "NUL": (GOOD.replace("claim: c", "claim: c\0").encode(), "4:21: expected printable text, found the character U+0000; remove it"),
    "only NUL": (b"\0" * 100, "1:1: expected printable text, found the character U+0000; remove it"),
    "escape": (GOOD.replace("claim: c", "claim: \x1b[31mc").encode(), "4:20: expected printable text, found the character U+001B; remove it"),
    "nothing": (b"", "1:1: expected a mapping with `version`, found nothing in the file; write a spec or remove it"),
    "Windows' line ends": (GOOD.replace("\n", "\r\n").encode(), ""),
    "Windows' line ends, and wrong": (GOOD.replace("\n", "\r\n").replace("H0", "H3").encode(), "4:31: expected a head H0 to H2, found H3 in S12L0H3; name one that the model has"),
    "a Macintosh's line ends, and wrong": (GOOD.replace("\n", "\r").replace("H0", "H3").encode(), "4:31: expected a head H0 to H2, found H3 in S12L0H3; name one that the model has"),
    "no line end": (GOOD.strip().encode(), ""),
    "10 MB": (GOOD.encode() + b"#" * MANY_BYTES, "1:1: expected at most 64 KiB of YAML, found a file of more than 64 KiB; split it by topic"),
    "10 MB of brackets": (b"[" * MANY_BYTES, "1:1: expected at most 64 KiB of YAML, found a file of more than 64 KiB; split it by topic"),
    "64 KiB of brackets": (b"[" * 65536, "1:17: expected at most 16 levels, found deeper nesting; flatten it"),
    "64 KiB of dashes": (b"- " * 32768, "1:33: expected at most 16 levels, found deeper nesting; flatten it"),
    "64 KiB of question marks": (b"? " * 32768, "1:3: expected a plain word as key, found a mapping; write the key as a word"),
}  # fmt: skip


@pytest.fixture(scope="module")
def limited():
    """A process with little memory and time; one that dies is an error of whoever asked it."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=limit) as pool:
        yield pool


def test_odd_bytes(limited, tmp_path, monkeypatch, capsys, figure):
    shutil.copytree(BAD / "fixtures", tmp_path / "fixtures")
    monkeypatch.chdir(tmp_path)
    for what, (raw, expected) in ODD.items():
        (tmp_path / "s.yaml").write_bytes(raw)
        (found,) = limited.submit(outcomes, "spec", [raw.replace(b"d5", b"add_d5_l2_h3")]).result()
        assert found == ("refused" if expected else "read"), what
        if expected:
            assert main(["check", "s.yaml", "--fixtures", "fixtures"]) == 2
            assert capsys.readouterr().err.splitlines()[0] == f"harness: s.yaml:{expected}", what
    figure("odd bytes: refused in a line, or read where nothing is wrong", len(ODD), len(ODD))


# Values that a mutation puts where another stood.
VALUES = (
    "", "~", "true", "yes", "on", "0", "-1", "7", "1.5", "1e3", "1:30", "0x1f", "0o17", "1_000", ".nan", "-.inf", "9" * 99,
    "9" * 5000, "[]", "{}", "[[]]", "[S12L0H0]", "{a: 1}", "{n: auto}", "[1, a, ~]", "S99", "L0H0", "S12L0H0", "A4", "D4.T1",
    "varied", "auto", '"{x}"', '"\\0"', '"\\ud800"', "&a b", "*a", "!!python/object/apply:os.system [ls]", "'", '"', "|", "> x",
    "? a", "- a", "%", "@", "`", "#", "\u0405", "\u202e", "２０", "2001-01-01", "../d5", "/tmp", "quick_*", "[", "<<", "1/2", "x" * 2000,
)  # fmt: skip
BYTES = (b"\0", b"\xff", b"\t", b"\r", b"\n", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b": ", b"- ", b"{", b"}", b"[", b"]", b"'", b'"', b"&", b"*", b"!")  # fmt: skip


def mutant_of(text: bytes, chance: random.Random) -> bytes:
    """Return a text that somebody, or something, has spoilt."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(text)) if text else 0
        lines = text.splitlines(keepends=True) or [b""]
        i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(9):
            case 0:
                text = text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
            case 1:
                text = text[:at]
            case 2:
                text = text[:at] + chance.choice(BYTES) + text[at:]
            case 3:
                text = b"".join(lines[:i] + lines[i + 1 :])
            case 4:
                text = b"".join(lines[: i + 1] + lines[i:])
            case 5:
                lines[i], lines[j] = lines[j], lines[i]
                text = b"".join(lines)
            case 6:
                text = text[: min(i, at)] + text[at:]
            case kind:  # a value, or a key, of the line
                parts = lines[i].rstrip(b"\n").split(b": ")
                k = chance.randrange(len(parts))
                other = chance.choice(VALUES).encode()
                parts[k : k + 1] = [other] if kind == 7 else []
                text = b"".join([*lines[:i], b": ".join(parts) + b"\n", *lines[i + 1 :]])
    return text


def single_claims():
    """Return each shipped claim as a spec of its own."""
    found = []
    own = {
        name
        for name in list_fixtures(FIXTURES)
        if not (recipe := FIXTURES / name / RECIPE).exists() or "task: addition\n" not in recipe.read_text("utf-8")
    }
    for path in sorted(HYPOTHESES.rglob("*.yaml")):
        if path.parent.name in own:  # a task of one's own brings torch, which does not fit into the limit
            continue
        head, _, body = path.read_text("utf-8").partition("hypotheses:\n")
        claims = ("\n" + body).split("\n  - ")[1:]
        found += [f"{head}hypotheses:\n  - {claim.rstrip()}\n".encode() for claim in claims]
    return found


def texts_of(kind):
    """Return the good texts of a kind: those shipped, which others are made of."""
    if kind == "spec":
        return single_claims()
    names = list_fixtures(FIXTURES)
    file = {"roles": ROLES, "pin": PIN}.get(kind, RECIPE)
    return [path.read_bytes() for name in names if (path := FIXTURES / name / file).exists()]


@pytest.mark.parametrize(
    ("kind", "full", "quick"),
    [
        ("spec", 7000, 180),
        ("recipe", 1000, 30),
        ("recipe of a fixture", 500, 30),
        ("roles", 1000, 30),
        ("pin", 500, 30),
    ],
)
def test_a_mutation_is_read_or_refused(kind, full, quick, many, figure, limited):
    good = texts_of(kind)
    n = many(full=full, quick=quick)
    chance = random.Random(f"mutations of a {kind}")
    mutants = [mutant_of(chance.choice(good), chance) for _ in range(n)]
    found = [
        outcome
        for first in range(0, n, 100)
        for outcome in limited.submit(outcomes, kind, mutants[first : first + 100]).result()
    ]
    counts = Counter(found)
    right = counts["read"] + counts["refused"]
    figure(f"mutations of a {kind}", n, right, f"{counts['refused']:,} refused, {counts['read']:,} still read")
    assert right == n, "\n".join(set(found) - {"read", "refused"})
    assert counts["refused"] > n / 4  # or nothing was spoilt
    assert counts["read"] or kind == "pin"  # its name is the fixture's


def test_the_good_texts_are_read_and_the_limits_limit(limited):
    some = random.Random(1).sample(single_claims(), 20)
    assert set(limited.submit(outcomes, "spec", some).result()) == {"read"}
    assert limited.submit(_takes, "memory").result() == "MemoryError"
    assert limited.submit(_takes, "time").result() == "TimeoutError"


def _takes(what):
    import signal

    signal.setitimer(signal.ITIMER_VIRTUAL, 0.1)
    try:
        if what == "memory":
            return len(bytearray(2**29))
        while True:
            pass
    except (MemoryError, TimeoutError) as error:
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
