"""Nan and nothing

A number that is none, and a question that was never asked, make nothing green: exit code 2 where something is wrong
(a spec, a recipe, weights, what was measured), 1 where less was found than asked for, 4 for an option that cannot be,
and 5 where nothing was judged. What is known to be refuted (`xfail`) was judged: a run of such claims alone exits 0,
and says so in its summary.
"""

from __future__ import annotations

import gzip
import json

import matplotlib as mpl
import matplotlib.backends.backend_agg
import matplotlib.figure
import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import tiny
import transformer_lens.model_bridge  # noqa: F401
from tiny import make_recipe, random_weights, recipe_text, write_tiny

import harness.judging.bench  # noqa: F401 - pytester forgets what is imported in its runs, and these cannot be twice
from harness.cli import main
from harness.specs.fixtures.files import WEIGHTS

SMALLEST = {"n_digits": 1, "n_layers": 1}
HOLDS = {"fails": [], "may_fail": ["A1", "A0"], "loss_above": 1.0e-9}
CLAIM = {
    "id": "a", "claim": "c", "ablate": "S3L0H0", "method": "zero", "questions": ["1+2", "3+4"], "gate": 0,
    "expect": HOLDS,
}  # fmt: skip
ANSWER = {"id": "a", "claim": "c", "answer": "whole", "questions": ["1+2"], "expect": {"loss_above": 1.0e-9}}
NAN, INFINITY = ".nan", ".inf"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with a fixture and a claim that holds."""
    for name in ("CI", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", mpl.get_configdir())
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider --strict-markers\n")
    pytester.mkdir("claims")
    write_tiny(pytester.path / "fixtures", **SMALLEST)
    return pytester


def write(project, *claims, **outer):
    """Write a spec with these claims; what YAML writes as `.nan` is no text."""
    claims = [claim | {"id": f"a{n}"} for n, claim in enumerate(claims)]
    text = json.dumps({"version": 1, "fixture": "tiny", "hypotheses": claims} | outer)
    for word in (NAN, INFINITY, "-.inf", "1e999"):
        text = text.replace(f'"{word}"', word)
    (project.path / "claims" / "a.yaml").write_text(text)


def check(capsys, *arguments):
    """Return the exit code of `harness check`, and what it said."""
    code = main(["check", "claims", "--device=cpu", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out + err


def run(project, *arguments):
    """Return the exit code of pytest, and what it said."""
    result = project.runpytest("claims", "--harness-device=cpu", *arguments)
    text = f"{result.stdout}{result.stderr}"
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    return int(result.ret), text


def test_the_claim_that_is_spoilt_below_is_green_otherwise(project, capsys):
    write(project, CLAIM, ANSWER)
    assert check(capsys)[0] == 0


# Numbers that are none.

BOUNDS = {
    "fail_rate": lambda x: CLAIM | {"expect": {"fails": ["A0"], "fail_rate": x}},
    "intact_rate": lambda x: CLAIM | {"expect": HOLDS | {"intact_rate": x}},
    "loss_below": lambda x: CLAIM | {"expect": {"fails": [], "may_fail": ["A1", "A0"], "loss_below": x}},
    "loss_above": lambda x: CLAIM | {"expect": HOLDS | {"loss_above": x}},
    "gate": lambda x: CLAIM | {"gate": x},
    "n": lambda x: CLAIM | {"questions": {"n": x}},
    "seed": lambda x: CLAIM | {"questions": {"n": 1000, "seed": x}},
    "accuracy_at_least": lambda x: ANSWER | {"expect": {"accuracy_at_least": x}},
    "accuracy_at_most": lambda x: ANSWER | {"expect": {"accuracy_at_most": x}},
    "mass_at_least": lambda x: {
        "id": "a", "claim": "c", "attend": {"node": "S3L0H0", "to": ["S0"]}, "questions": ["1+2"], "gate": 0,
        "expect": {"mass_at_least": x},
    },
    "follow_rate": lambda x: {
        "id": "a", "claim": "c", "patch": {"node": "S3L0H0", "variable": "D0.carry", "digits": ["A1"]},
        "pairs": {"n": 1000}, "expect": {"follow_rate": x},
    },
    "below": lambda x: {"id": "a", "claim": "c", "learn": {"first": ["A0"], "before": ["A1"], "below": x}},
    "share_above": lambda x: {
        "id": "a", "claim": "c", "learn": {"first": ["A0"], "before": ["A1"], "below": 1}, "expect": {"share_above": x},
    },
}  # fmt: skip


def test_a_threshold_that_is_no_number_is_refused(project, figure, capsys):
    found = {}
    for key, claim in BOUNDS.items():
        for value in (NAN, INFINITY, "-.inf", "1e999", "nan"):
            write(project, claim(value))
            code, said = check(capsys)
            found[key, value] = code == 2 and f"correct `{key}`" in said and "found" in said
    figure(
        "thresholds of .nan, .inf, -.inf, 1e999 and nan",
        len(found),
        sum(found.values()),
        "exit code 2: the key is named",
    )
    assert all(found.values()), [case for case, right in found.items() if not right]


def test_a_recipe_of_no_numbers_is_refused(project, figure, capsys):
    found = {}
    for key in ("optimiser: {lr: X}", "optimiser: {weight_decay: X}", "optimiser: {betas: [X, 0.9]}", "steps: X",
                "enrichment: {batch_share: X}", "seed: X", "d_model: X"):  # fmt: skip
        for value in (NAN, INFINITY):
            name = key.partition(":")[0]
            lines = [line for line in recipe_text(**SMALLEST).splitlines() if not line.startswith(name)]
            (project.path / "fixtures/tiny/recipe.yaml").write_text("\n".join([*lines, key.replace("X", value)]) + "\n")
            code = main(["train", "tiny", "--device=cpu"])
            found[key, value] = code == 2 and "Traceback" not in capsys.readouterr().err
    figure("recipes of .nan and .inf", len(found), sum(found.values()), "exit code 2")
    assert all(found.values()), found


def replace_tiny(project, change):
    """Give the fixture weights that were changed by `change`, and a pin that is true of them."""
    weights = random_weights(make_recipe(**SMALLEST))
    change(weights)
    directory = project.path / "fixtures" / "tiny"
    for file in (WEIGHTS, "model.json"):
        (directory / file).unlink()
    write_tiny(project.path / "fixtures", weights=weights, **SMALLEST)


def fill(name, value, row=None):
    """Return a change that writes a value all over a tensor, or over one of its rows."""
    return lambda weights: weights[name][... if row is None else row].fill_(value)


def claims_of_all_kinds():
    """Return a claim of each verb that would hold whatever was counted, were nan a number."""
    for engine_reached in ("S3L0H0", "S3L0M"):
        for method in ("zero", "mean", "resample"):
            yield CLAIM | {
                "ablate": engine_reached,
                "method": method,
                **({} if method == "zero" else {"reference": ["9+9"]}),
            }
    yield {"id": "a", "claim": "c", "keep": {"heads": "S3L0H0", "digits": ["A0"]}, "questions": ["1+2"], "gate": 0,
           "reference": ["9+9"]}  # fmt: skip
    yield ANSWER
    yield {"id": "a", "claim": "c", "attend": {"node": "S3L0H0", "to": ["S0"]}, "questions": ["1+2"], "gate": 0,
           "expect": {"mass_at_most": 0.999}}  # fmt: skip
    yield {"id": "a", "claim": "c", "patch": {"node": "S3L0H0", "variable": "D0.carry", "digits": ["A1"]}, "gate": 0,
           "pairs": ["1+2 -> 9+9"], "expect": {"intact_rate": 0.99}}  # fmt: skip


@pytest.mark.parametrize("engine", ["cone", "hooks"])
def test_logits_that_are_no_numbers_are_an_error_of_every_verb(project, engine, figure, capsys):
    """Weights are finite, and what is worked out with them is not."""
    replace_tiny(project, fill("unembed.W_U", 3e38))
    claims = list(claims_of_all_kinds())
    write(project, *claims)
    code, said = check(capsys, f"--engine={engine}")
    errors = said.count("expected finite logits, found nan or infinity; check the weights of tiny")
    figure(
        f"logits of nan, each verb and method ({engine})", len(claims), errors, "exit code 2: finite logits expected"
    )
    assert code == 2
    assert errors == len(claims)
    assert f"0 claims evaluated; {len(claims)} could not be judged" in said


@pytest.mark.parametrize("engine", ["cone", "hooks"])
def test_a_reference_whose_values_are_no_numbers_is_an_error(project, engine, figure, capsys):
    """The claim's own questions are answered; only the token 9, which the reference has, gives nan."""
    replace_tiny(project, fill("embed.W_E", 3e38, row=9))
    claims = [claim for claim in claims_of_all_kinds() if "reference" in claim and "keep" not in claim]
    write(project, *claims, CLAIM)
    code, said = check(capsys, f"--engine={engine}")
    errors = said.count("expected finite logits, found nan or infinity")
    figure(
        f"a mean reference, or donors, of nan ({engine})",
        len(claims),
        errors,
        "exit code 2; the claim without one holds",
    )
    assert (code, errors) == (2, len(claims))
    assert f"1 claim evaluated: 1 supported; {len(claims)} could not be judged" in said


def test_commands_that_measure_nan_exit_2(project, figure, capsys):
    replace_tiny(project, fill("unembed.W_U", 3e38))
    tiny.save_checkpoint(
        project.path / "old.pth", random_weights(make_recipe(**SMALLEST)) | {"unembed.W_U": torch_full()}
    )
    (project.path / "recipe.yaml").write_text(recipe_text(**SMALLEST))
    found = {}
    for arguments in (
        ["ask", "tiny", "1+2"], ["ask", "tiny", "1+2", "--ablate=S3L0H0"], ["sweep", "tiny", "--questions=[1+2]"],
        ["minimal", "tiny", "--n=10"], ["new", "tiny", "S3L0H0", "--questions={n: 20}"], ["attention", "tiny", "1+2"],
        ["locate", "tiny", "--n=5", "--confirm=5"], ["import", "old.pth", "--recipe=recipe.yaml", "--name=new"],
    ):  # fmt: skip
        code = main([*arguments, "--device=cpu"])
        said = capsys.readouterr().err
        found[" ".join(arguments)] = code == 2 and "finite logits" in said and "Traceback" not in said
    figure(
        "commands on a model whose logits are nan", len(found), sum(found.values()), f"exit code 2: {', '.join(found)}"
    )
    assert all(found.values()), found
    assert not (project.path / "fixtures" / "new").exists()


def torch_full():
    return random_weights(make_recipe(**SMALLEST))["unembed.W_U"].fill_(3e38)


# Learning curves.


def write_curves(project, change):
    """Give eight fixtures learning curves in which A0 is learned first, all changed in the same way."""
    layout = make_recipe(**SMALLEST).task
    names = layout.curve_columns
    for run_of in range(8):
        directory = project.path / "fixtures" / f"run{run_of}"
        directory.mkdir(exist_ok=True)
        if not (directory / "model.json").exists():
            weights = random_weights(make_recipe(**SMALLEST))
            own = {name: (1 + 0.01 * run_of) * value for name, value in weights.items()}  # no two runs are the same
            write_tiny(project.path / "fixtures", directory.name, weights=own, **SMALLEST, steps=30)
        rows = [["step", *names]]
        for step in range(30):
            row = {
                name: "1" if name.endswith("cases") else "0.1" if name != "A1" or step > 8 else "3" for name in names
            }
            row["right"] = f"0.{run_of}"  # no two runs are the same
            rows.append([str(step), *(change(name, step, row[name]) for name in names)])
        text = "\n".join(",".join(row) for row in rows) + "\n"
        (directory / "training.csv.gz").write_bytes(gzip.compress(text.encode()))


def test_learning_curves_of_nothing_are_learned_never(project, figure, capsys):
    claim = {"id": "a", "claim": "c", "fixtures": "run*", "learn": {"first": ["A0"], "before": ["A1"], "below": 1}}
    spoilt = {
        "as they are": (0, lambda name, step, value: value),
        "nan": (2, lambda name, step, value: "nan" if name == "A1" else value),
        "inf": (2, lambda name, step, value: "inf" if name == "A1" else value),
        "-inf": (2, lambda name, step, value: "-inf" if name == "A0" else value),
        "1e999": (2, lambda name, step, value: "1e999" if name == "A1" else value),
        "a series never seen": (2, lambda name, step, value: "" if name == "A1" else value),
        "the first never seen": (2, lambda name, step, value: "" if name == "A0" else value),
        "text": (2, lambda name, step, value: "low" if name == "A0" else value),
    }
    found = {}
    for what, (expected, change) in spoilt.items():
        write_curves(project, change)
        write(project, claim, fixture="run0")
        found[what] = check(capsys)[0] == expected
    figure("learning curves", len(found), sum(found.values()), "exit code 2 but for " + ", ".join(found))
    assert all(found.values()), found


# Nothing.

EMPTY = {
    "no questions": (CLAIM | {"questions": []}, 2),
    "n: 0": (CLAIM | {"questions": {"n": 0}}, 2),
    "a case that has none": (CLAIM | {"questions": {"n": 10, "where": {"case": "BA", "cascade": 1}}}, 2),
    "an empty list of cases": (CLAIM | {"questions": {"n": 10, "where": {"case": []}}}, 2),
    "no nodes": (CLAIM | {"ablate": []}, 2),
    "no reference": (CLAIM | {"method": "mean", "reference": []}, 2),
    "no bound": (ANSWER | {"expect": {}}, 2),
    "no fixtures": (ANSWER | {"fixtures": []}, 2),
    "a glob of no fixture": (ANSWER | {"fixtures": "none*"}, 2),
    "no rows": (CLAIM | {"each": []}, 2),
    "no pairs": (
        {"id": "a", "claim": "c", "patch": {"node": "S3L0H0", "variable": "D0.carry", "digits": ["A1"]}, "pairs": []}, 2,
    ),
    "a gate that nothing passes": (CLAIM | {"gate": 1}, 2),
    "a digit that is never right": (CLAIM | {"expect": {"fails": [], "may_fail": []}}, 2),
}  # fmt: skip


def test_a_claim_that_asks_nothing_is_an_error(project, figure, capsys):
    found = {}
    for what, (claim, expected) in EMPTY.items():
        write(project, claim)
        found[what] = check(capsys)[0] == expected
    write(project)
    found["no claims"] = check(capsys)[0] == 2
    (project.path / "claims/a.yaml").write_text("")
    found["an empty file"] = check(capsys)[0] == 2
    (project.path / "claims/a.yaml").unlink()
    found["no file"] = check_code(capsys) == 2
    figure("claims that ask nothing, or of nothing (harness check)", len(found), sum(found.values()), ", ".join(found))
    assert all(found.values()), found


def check_code(capsys):
    code = main(["check", "claims"])
    capsys.readouterr()
    return code


def test_a_roles_file_of_nothing_names_nothing(project, figure, capsys):
    found = {}
    write(project, CLAIM | {"ablate": "[add.A1]"})
    for text in ("", "version: 1\n", "version: 1\nroles:\n", "version: 1\nroles: {}\n", "version: 1\nroles: {add: {}}\n",
                 "version: 1\nroles: {add: {A1: []}}\n", "version: 1\nroles: {}\nunplaced: {add.A1: none does it}\n"):  # fmt: skip
        (project.path / "fixtures/tiny/roles.yaml").write_text(text)
        found[text] = check(capsys)[0] == 2
    figure("claims by roles that a roles file has not", len(found), sum(found.values()), "exit code 2")
    assert all(found.values()), found


def test_reports_of_nothing_are_not_compared(project, figure, capsys):
    """`No difference` between two reports in which nothing was judged would be green for ever."""
    found = {}
    for text in ('{"version": 4, "claims": []}', '{"version": 4, "claims": [{}]}', '{"version": 4, "claims": [NaN]}',
                 '{"version": NaN, "claims": []}', '{"version": 4}', "NaN", "[]", "", "{"):  # fmt: skip
        (project.path / "report.json").write_text(text)
        for arguments in (["diff", "report.json", "report.json"], ["findings", "report.json"]):
            code = main(arguments)
            found[arguments[0], text] = code == 2 and "Traceback" not in capsys.readouterr().err
    write(project, CLAIM | {"gate": 1})
    main(["check", "claims", "--device=cpu", "--json"])
    (project.path / "report.json").write_text(capsys.readouterr().out)
    found["diff", "errors alone"] = main(["diff", "report.json", "report.json"]) == 2
    figure(
        "harness diff and findings of reports in which nothing was judged",
        len(found),
        sum(found.values()),
        "exit code 2",
    )
    assert all(found.values()), found


# A pytest run.

GREEN = CLAIM
KNOWN = CLAIM | {"expect": HOLDS | {"loss_above": 1000}, "xfail": {"reason": "known"}}
ERROR = CLAIM | {"gate": 1}
RUNS = {  # the exit code, and what is said; the first ones are told nowhere else in the tests
    "coverage of no claim that looks inside": (
        [ANSWER], ["--harness-coverage-fail-under=1"], 1, "no coverage: no claim that was judged looks inside of a model",
    ),
    "coverage where no node matters": (
        [GREEN], ["--harness-coverage-fail-under=1"], 1, "0 of the 0 nodes that matter are named by a supported claim that needs them (0%)",
    ),
    "nan per cent": ([GREEN], ["--harness-coverage-fail-under=nan"], 4, "expected per cent from 0 to 100, found nan"),
    "inf per cent": ([GREEN], ["--harness-coverage-fail-under=inf"], 4, "expected per cent from 0 to 100, found inf"),
    "-1 per cent": ([GREEN], ["--harness-coverage-fail-under=-1"], 4, "expected per cent from 0 to 100, found -1"),
    "all xfail: judged, and known": ([KNOWN], [], 0, "1 claim evaluated: 1 refuted (1 refuted or inconclusive as their"),
    "xfail alone, and it cannot be judged": ([ERROR | {"xfail": {"reason": "known"}}], [], 2, "1 could not be judged"),
    "errors alone": ([ERROR], [], 2, "0 claims evaluated; 1 could not be judged"),
    "a digit that is never right": ([CLAIM | {"expect": {"fails": []}}], [], 2, "1 could not be judged"),
    "all deselected": ([GREEN], ["-k", "nothing"], 5, "0 claims evaluated"),
    "no file": (None, [], 5, "0 claims evaluated"),
    "coverage of no claim": ([GREEN], ["-k", "nothing", "--harness-coverage-fail-under=1"], 5, "0 claims evaluated"),
    "mutants of no claim": ([GREEN], ["-k", "nothing", "--harness-mutate"], 5, "0 claims evaluated"),
}  # fmt: skip


def test_a_run_in_which_nothing_is_shown_is_not_green(project, figure, many):
    for what, (claims, arguments, code, line) in list(RUNS.items())[: many(len(RUNS), 7)]:
        spec = project.path / "claims" / "a.yaml"
        spec.unlink(missing_ok=True)
        if claims is not None:
            write(project, *claims)
        found, said = run(project, *arguments)
        figure(f"pytest: {what}", 1, found == code and line in said, f"exit code {code}: {line}")
        assert found == code, what
        assert line in said, what


def test_coverage_that_cannot_be_measured_is_trouble(project, figure):
    """The claim's own questions are answered; those of the coverage have the token 9, which gives nan."""
    replace_tiny(project, fill("embed.W_E", 3e38, row=9))
    write(project, CLAIM)
    code, said = run(project, "--harness-coverage-fail-under=1")
    line = "no coverage of tiny: tiny: expected finite logits, found nan or infinity"
    figure("pytest: coverage of nan", 1, code == 2 and line in said, f"exit code 2: {line}")
    assert code == 2
    assert line in said


def test_skipped_claims_alone_are_not_green(project, figure):
    hub = {"repo": "somebody/adds", "file": "old.pth"}
    directory = project.path / "fixtures" / "published"
    directory.mkdir()
    (directory / "recipe.yaml").write_text(recipe_text(**SMALLEST, hub=hub))
    write(project, CLAIM, fixture="published")
    code, said = run(project)
    line = "0 claims evaluated; 1 skipped, their weights are not here"
    figure("pytest: all skipped", 1, code == 5 and line in said, f"exit code 5: {line}")
    assert code == 5
    assert line in said
