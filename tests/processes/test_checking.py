"""`harness check --all` and `harness train --all`, on one machine: what pytest says of the same claims, they say."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import many
import pytest
from paths import ROOT
from tiny import contents, recipe_text, write_tiny

from harness.cli import main
from harness.judging.bench import Workbench
from harness.judging.jobs import do_job, jobs_of, records_of
from harness.judging.verb import verb_named
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.pins import read_pin
from harness.specs.spec_files import load_file
from harness.specs.verbs.registry import VERBS
from harness.training.runs import train_fixture

pytestmark = pytest.mark.usefixtures("one_thread")
# pytester forgets what a run inside this process imports, but a verb stays: what it returns could not be pickled then.
# So every verb is imported here, before the first run.
for _verb in VERBS:
    verb_named(_verb)
SMALL = {"n_digits": 1, "n_layers": 1, "steps": 20}


@pytest.fixture
def project(tmp_path, monkeypatch):
    many.write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def claims_of(project):
    """Return the claims of the project's good specs."""
    specs = sorted(project.joinpath("hypotheses").glob("*.yaml"))
    return [claim for path in specs if path.stem != "bad" for claim in load_file(path, project / "fixtures")]


def test_the_reports_of_check_all_are_those_of_pytest(project, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    asked = ["hypotheses", "-p", "harness.plugin", "-p", "no:cacheprovider", "--harness-train=never"]
    places = ["--harness-report=pytest", "--harness-html=pytest.html", "--harness-device=cpu"]
    ran = subprocess.run([sys.executable, "-m", "pytest", *asked, *places], check=False, capture_output=True, text=True)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary.md"))
    assert (
        main(["check", "--all", "--device", "cpu", "--report", "check", "--html", "check.html"]) == ran.returncode == 2
    )
    assert (project / "summary.md").read_text("utf-8").startswith("# Claims\n")
    ours, theirs = many.report(project / "check.json"), many.report(project / "pytest.json")
    assert {claim["id"]: claim["status"] for claim in ours["claims"]} == many.STATUSES
    assert ours == theirs
    command = json.loads((project / "check.json").read_text("utf-8"))["command"]
    assert command == "harness check --all --device cpu --report check --html check.html"
    without_times = [
        (project / f"{name}.md").read_text("utf-8").split("<details><summary>Seconds")[0].split("\n", 3)[3]
        for name in ("check", "pytest")
    ]
    assert without_times[0] == without_times[1]
    pages = [(project / f"{name}.html").read_text("utf-8") for name in ("check", "pytest")]
    assert pages[0].count("<svg") == pages[1].count("<svg") > len(many.MODELS)  # the maps are among the pictures
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if line.startswith("wrote ")][:2] == [
        "wrote check.md",
        "wrote check.json",
    ]
    assert "harness: hypotheses/bad.yaml:1:5: expected YAML" in err
    assert "hypotheses/untrained.yaml::a: expected weights pinned in fixtures/bare/model.json" in err


def test_a_claim_about_several_runs_is_judged_in_the_jobs_of_each_and_what_is_compared_in_one_of_its_own(project):
    jobs = jobs_of(claims_of(project))
    asked = {title: sorted({claim.id for claim in job.claims}) for title, job in jobs.items()}
    assert asked == {
        "s0": ["each-all", "each-two", "fails", "holds"],
        "s1": ["each-all", "each-published", "each-two", "known", "known-but-holds"],
        "s2": ["each-all", "each-altered"],
        "s0 s1 s2": ["compared-all"],
        "s0 s1": ["compared-two"],
        "bare": ["a", "b"],
        "published": ["each-published", "not-here"],
        "altered": ["each-altered"],
        "altered s2": ["compared-altered"],
        "published s1": ["compared-published"],
    }  # fmt: skip


def test_jobs_and_what_comes_of_them_travel(project):
    """As between machines; the records that come of it are the same."""
    claims = claims_of(project)
    here = {title: do_job(job, lambda: Workbench("cpu")) for title, job in jobs_of(claims).items()}
    there = {
        title: pickle.loads(pickle.dumps(do_job(job, lambda: Workbench("cpu"))))
        for title, job in pickle.loads(pickle.dumps(jobs_of(claims))).items()
    }
    mine, theirs = records_of(claims, here, []), records_of(claims, there, [])
    for record in (*mine, *theirs):
        for one in (record, *record.get("measurement", {}).get("by_run", {}).values()):
            one.pop("seconds", None)
    assert mine == theirs


def test_a_job_that_was_lost_is_an_error_of_its_claims_alone(project):
    claims = claims_of(project)
    done = {title: do_job(job, lambda: Workbench("cpu")) for title, job in jobs_of(claims).items()}
    done["s2"] = RuntimeError("the worker died\nsix times")
    found = {record["id"]: record for record in records_of(claims, done, [])}
    assert {name for name in found if found[name]["status"] != many.STATUSES[name]} == {"each-all"}
    assert found["each-all"]["problems"] == found["each-altered"]["problems"] == ["RuntimeError: the worker died"]


def test_what_nobody_expected_spoils_one_claim_and_shows_its_traceback(project, monkeypatch, capsys):
    def judge(claim, bench):
        if claim.id == "holds":
            raise MemoryError("too large")
        return judged(claim, bench)

    judged = sys.modules["harness.judging.jobs"].judge
    monkeypatch.setattr("harness.judging.jobs.judge", judge)
    assert main(["check", "hypotheses/alone.yaml", "--device", "cpu", "--json"]) == 2
    out, err = capsys.readouterr()
    assert [claim["status"] for claim in json.loads(out)["claims"]] == ["error", "failed"]
    assert "Traceback" in err
    assert err.endswith("harness: hypotheses/alone.yaml::holds: MemoryError: too large\n")


def test_check_all_takes_paths_and_writes_to_reports(project, capsys):
    twice = ["hypotheses/alone.yaml", "hypotheses/alone.yaml", "hypotheses/known.yaml"]
    assert main(["check", "--all", *twice, "--device", "cpu"]) == 1
    claims = many.report(project / "reports" / "hypotheses.json")["claims"]
    assert [claim["id"] for claim in claims] == ["holds", "fails", "known", "known-but-holds"]
    assert "wrote reports/hypotheses.json" in capsys.readouterr().out


def test_a_job_summary_that_cannot_be_written_is_told_and_is_no_trouble(project, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project))
    assert main(["check", "--all", "hypotheses/known.yaml", "--device", "cpu"]) == 1
    assert f"harness: no job summary written: {project}: Is a directory" in capsys.readouterr().err


def test_a_report_that_was_asked_for_and_cannot_be_written_is_trouble(project, capsys):
    (project / "in-the-way").write_text("", "utf-8")
    assert main(["check", "--all", "hypotheses/alone.yaml", "--device", "cpu", "--report", "in-the-way/x"]) == 2
    err = capsys.readouterr().err
    assert (
        err
        == f"harness: expected reports that can be written, found File exists ({project / 'in-the-way'}); name another place\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["check"], "expected a spec file, a directory of them, or --all, found none; name one"),
        (["check", "x.yaml", "--html", "x"], "expected --all with --html, found --html alone; add --all"),
        (["check", "x.yaml", "--report", "x"], "expected --all with --report, found --report alone; add --all"),
        (["check", "x.yaml", "--ray", "auto"], "expected --all with --ray, found --ray alone; add --all"),
        (["train", "s0", "--ray", "auto"], "expected --all with --ray, found --ray alone; add --all"),
        (["train"], "expected the NAME of a fixture, or --all, found neither; add one"),
        (["train", "--all", "s0"], "expected --all alone, found a NAME, or an option of one, as well; leave it out"),
        (["train", "--all", "--fresh"], "expected --all alone, found a NAME, or an option of one, as well; leave it out"),
        (["train", "--all", "--steps", "0"], "expected --all alone, found a NAME, or an option of one, as well; leave it out"),
        (["train", "--all", "--fixtures", "none"], "expected a directory of fixtures, found none, which is none; name another"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_in_a_line(project, capsys, arguments, line):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"harness: {line}\n"


def test_without_ray_its_option_says_what_to_install(project, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # where Ray is installed, it is not
    for arguments in (["check", "--all", "hypotheses/alone.yaml"], ["train", "--all"]):
        assert main([*arguments, "--ray", "10.0.0.1:6379"]) == 2
        line = "expected Ray, which --ray needs, found no such package; pip install 'mechanistic-harness[ray]'"
        assert capsys.readouterr().err == f"harness: {line}\n"


def test_train_all_trains_what_has_a_recipe_and_no_weights_and_goes_on_after_trouble(tmp_path, capsys):
    write_tiny(tmp_path, "there")
    for name, fields in (("a", {}), ("b", {"x": 1}), ("c", {"seed": 5}), ("hub", {"hub": many.HUB})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(recipe_text(**{**SMALL, **fields}), "utf-8")
    before = contents(tmp_path / "there")
    assert main(["train", "--all", "--fixtures", str(tmp_path), "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "2 of 3 fixtures trained; not b"
    assert f"harness: b: {tmp_path / 'b' / 'recipe.yaml'}:10:1: expected a known key, found x; " in err
    assert contents(tmp_path / "there") == before
    assert contents(tmp_path / "hub").keys() == {"recipe.yaml"}
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "c").mkdir()
    (tmp_path / "again" / "c" / "recipe.yaml").write_bytes((tmp_path / "c" / "recipe.yaml").read_bytes())
    alone = train_fixture(FixtureRef("c", tmp_path / "again"), device="cpu").pin
    assert (
        read_pin(FixtureRef("c", tmp_path)).weights_sha256
        == alone.weights_sha256
        != read_pin(FixtureRef("a", tmp_path)).weights_sha256
    )
    (tmp_path / "b" / "recipe.yaml").unlink()
    assert main(["train", "--all", "--fixtures", str(tmp_path), "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: every fixture that has a recipe to train by has its weights\n"
