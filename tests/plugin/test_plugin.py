"""What people see: pytest on specs, in a project of its own, on the real two-layer model."""

from __future__ import annotations

import json
import sys
import textwrap
import xml.etree.ElementTree as ET

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401
from paths import FIXTURE, FIXTURES, ROOT

# pytester forgets modules that a run inside this process imports; compiled ones like the above must not be
# imported twice, so they are imported before.
import harness.judging.evaluation
import harness.judging.records

SUPPORTED = """\
  - id: s12-breaks-a4
    claim: S12 makes A4.
    ablate: S12
    method: zero
    questions: ba
    expect: {fails: [A4]}
    tags: [quick]
"""
REFUTED = """\
  - id: s12-breaks-a3
    claim: S12 makes A3.
    source: nobody
    ablate: S12
    method: zero
    questions: ba
    expect: {fails: [A3]}
"""
KNOWN = """\
  - id: known
    claim: S12 makes A3.
    ablate: S12
    method: zero
    questions: ba
    expect: {fails: [A3]}
    xfail: {reason: it makes A4}
"""
SHAPE_SAYS = """\
  - id: s17
    claim: S17 is not used.
    ablate: S17
    method: zero
    questions: ba
    expect: {fails: []}
"""


def spec(*claims):
    return f"version: 1\nfixture: {FIXTURE}\nhypotheses:\n" + "".join(claims)


@pytest.fixture
def project(pytester, monkeypatch):
    """A project whose specs are in claims/, run with our fixtures and, as there, from a bare checkout."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider --strict-markers\n")
    pytester.mkdir("claims")
    return pytester


def write(project, name="a.yaml", text=None):
    (project.path / "claims" / name).write_text(text or spec(SUPPORTED), "utf-8")


def run(project, *arguments, claims="claims/"):
    return project.runpytest(claims, f"--harness-fixtures={FIXTURES}", "--harness-device=cpu", *arguments)


def report(project, path="reports/hypotheses.json"):
    return json.loads((project.path / path).read_text("utf-8"))


def test_a_supported_claim_passes_and_is_reported(project):
    write(project)
    result = run(project)
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([
        f"harness: *device cpu, fixtures: *{FIXTURE} sha256 *",
        "*supported*s12-breaks-a4*S12*zero*ba*A4 fails*A4 * (*%)*",
        "1 claim evaluated: 1 supported",
        f"engine cone on cpu, {FIXTURE} sha256 *; * s of measuring",
        "wrote reports/hypotheses.md",
        "wrote reports/hypotheses.json",
    ])  # fmt: skip
    (claim,) = report(project)["claims"]
    assert claim["key"] == "claims/a.yaml::s12-breaks-a4"
    assert claim["verdict"] == "supported"
    assert claim["measurement"]["n"] == 17


def test_a_refuted_claim_fails_with_a_table_and_no_traceback(project):
    write(project, text=spec(SUPPORTED, REFUTED))
    result = run(project)
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([
        "REFUTED: S12 makes A3.",
        f"nobody · {FIXTURE} · zero-ablate S12 · ba (census of 17) · clean accuracy 100%",
        "digit*expected*wrong/asked*rate*interval*finding",
        "A5 *never fails*0/17*0%*by construction",
        "A4 *never fails*/17*%*contradicted",
        "A3 *fails*0/17*0%*contradicted",
        "questions that decided it:",
        "  ?????+?????=?????? yNyyyy BA",
        "claims/a.yaml:11",
        'rerun: pytest "claims/a.yaml::s12-breaks-a3" --harness-device=cpu --harness-fixtures=*',
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*harness/plugin/*")
    result.stdout.no_fnmatch_line("*Error*")


def test_the_rerun_command_runs_that_claim_alone(project):
    write(project, text=spec(SUPPORTED, REFUTED))
    result = run(project, claims="claims/a.yaml::s12-breaks-a3")
    assert result.ret == 1
    result.assert_outcomes(failed=1)


def test_xfail_is_strict_and_only_satisfied_by_a_verdict(project):
    write(project, text=spec(KNOWN))
    result = run(project)
    assert result.ret == 0
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*1 refuted (1 refuted or inconclusive as their specs say)"])

    write(project, text=spec(SUPPORTED.replace("tags: [quick]", "xfail: {reason: thought so}")))
    result = run(project)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["The spec says xfail (thought so): remove that, the claim holds now."])

    write(project, text=spec(KNOWN + "    gate: 1.0\n").replace("questions: ba", "questions: [1+1]"))
    empty = run(project, f"--harness-fixtures={project.mkdir('none')}")
    assert empty.ret == 2
    empty.assert_outcomes(errors=1)


def test_an_xfail_that_says_what_is_seen_fails_when_that_moves(project):
    write(project, text=spec(KNOWN.replace("{reason", "{verdict: refuted, observed: {A3: 0/17}, reason")))
    result = run(project)
    assert result.ret == 0
    result.assert_outcomes(xfailed=1)
    assert report(project)["claims"][0]["xfail_expects"] == {"verdict": "refuted", "observed": {"A3": [0, 0]}}

    write(project, text=spec(KNOWN.replace("{reason", "{observed: {A3: [5%, 12%]}, reason")))
    result = run(project)
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "REFUTED: S12 makes A3.",
        "The spec says xfail (it makes A4), but it does not fail in the way that is expected there:",
        "  A3: expected 5% to 12%, observed 0%",
        "Find out why it moved. If that is right, write into `xfail` what is seen now.",
        "*1 refuted; 1 not as their specs say",
    ])  # fmt: skip
    assert run(project, "--runxfail").ret == 1


def test_a_claim_said_twice_is_told_in_the_summary(project):
    write(project, text=spec(SUPPORTED))
    write(project, "b.yaml", spec(SUPPORTED.replace("S12 makes A4.", "The step after the equals sign makes it.")))
    result = run(project, "-n2")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "supported (repeats *",
            "claims/a.yaml::s12-breaks-a4)*",
            "2 claims evaluated: 2 supported, 1 of them repeats another",
        ]
    )
    assert [one["repeats"] for one in report(project)["claims"]] == [None, "claims/a.yaml::s12-breaks-a4"]


def test_what_is_by_construction_must_say_so_and_never_counts_as_supported(project):
    write(project, text=spec(SHAPE_SAYS))
    result = run(project)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["BY CONSTRUCTION: S17 is not used.", "The model's shape alone settles it; say*"])
    result.stdout.fnmatch_lines(["by construction (undeclared)*s17*"])

    write(project, text=spec(SHAPE_SAYS + "    by_construction: true\n"))
    result = run(project)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 claim evaluated: 1 by construction"])
    assert "supported" not in report(project)["summary"]


def test_one_bad_file_does_not_silence_the_others(project):
    write(project, "bad.yaml", spec(SUPPORTED).replace("S12", "S99"))
    write(project, "good.yaml")
    result = run(project)
    assert result.ret == 2
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([
        "*ERROR collecting claims/bad.yaml*",
        "claims/bad.yaml:6:13: expected a step S0 to S17, found S99 in S99; name one that the model has",
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*Traceback*")
    assert len(report(project)["spec_errors"]) == 1
    assert len(report(project)["claims"]) == 1


def test_somebody_elses_collection_error_still_stops_the_run(project):
    write(project)
    write(project, "bad.yaml", "x: [")
    project.makepyfile(test_broken="import nothing_of_that_name")
    result = run(project, "test_broken.py")
    assert result.ret == 2
    result.assert_outcomes(errors=2)


def test_a_broken_fixture_is_an_error_of_each_claim_and_exit_code_2(project):
    import shutil

    copy = project.path / "weights"
    shutil.copytree(FIXTURES / FIXTURE, copy / FIXTURE)
    weights = copy / FIXTURE / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    write(project, text=spec(SUPPORTED, KNOWN))
    result = run(project, "--harness-fixtures=weights")
    assert result.ret == 2
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*weights/*model.safetensors: expected weights of sha256 *, found sha256 *"])
    result.stdout.fnmatch_lines(["0 claims evaluated; 2 could not be judged"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert weights.read_bytes() == bytes(raw)


def test_no_claims_is_never_green(project):
    assert run(project).ret == 5
    write(project)
    assert run(project, "-k", "nothing_matches").ret == 5
    project.makepyfile(test_green="def test_one(): assert True")
    result = run(project, "test_green.py", "-k", "test_one")
    assert result.ret == 5
    result.stdout.fnmatch_lines(["0 claims evaluated"])


def test_an_empty_list_of_claims_is_an_error(project):
    write(project, text=f"version: 1\nfixture: {FIXTURE}\nhypotheses: []\n")
    result = run(project)
    assert result.ret == 2
    result.stdout.fnmatch_lines(["claims/a.yaml:3:13: expected at least 1 in `hypotheses`, found an empty list; *"])


def test_it_leaves_other_yaml_and_other_runs_alone(project):
    write(project)
    (project.path / "other.yaml").write_text("anything: [", "utf-8")
    project.makepyfile(test_other="def test_one(): assert True")
    result = project.runpytest("test_other.py")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("harness: *")
    result.stdout.no_fnmatch_line("*claims evaluated*")
    result = project.runpytest(".", "--ignore=claims", "--co", "-q")
    result.stdout.no_fnmatch_line("*other.yaml*")


def test_a_spec_named_on_the_command_line_needs_no_ini_key(project):
    project.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    (project.path / "mine.yaml").write_text(spec(SUPPORTED), "utf-8")
    result = run(project, claims="mine.yaml")
    assert result.ret == 0
    result.assert_outcomes(passed=1)


def test_tags_select_and_ids_select(project):
    write(project, text=spec(SUPPORTED, REFUTED))
    run(project, "-m", "quick").assert_outcomes(passed=1, deselected=1)
    run(project, "-k", "a3").assert_outcomes(failed=1, deselected=1)


def test_last_failed_reruns_what_failed(project):
    project.makeini("[pytest]\nharness_paths = claims\n")
    write(project, text=spec(SUPPORTED, REFUTED))
    assert run(project).ret == 1
    run(project, "--lf").assert_outcomes(failed=1)


def test_numbers_are_junit_properties(project):
    write(project)
    run(project, "--junitxml=junit.xml")
    root = ET.parse(project.path / "junit.xml")
    found = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert found["verdict"] == "supported"
    assert found["n"] == "17"
    assert found["A5_wrong_of_asked"] == "0/17"
    assert found["engine"] == "cone"


@pytest.mark.slow
def test_the_report_goes_where_it_is_told_and_a_read_only_place_is_no_crash(project):
    write(project)
    assert run(project, "--harness-report=out/mine").ret == 0
    assert report(project, "out/mine.json")["summary"] == {"supported": 1}
    assert "s12-breaks-a4" in (project.path / "out" / "mine.md").read_text("utf-8")
    assert run(project, "--harness-report=out").ret == 0
    assert report(project, "out/hypotheses.json")["summary"] == {"supported": 1}
    (project.path / "file").write_text("in the way", "utf-8")
    result = run(project, "--harness-report=file/mine.md")
    assert result.ret == 2  # it was asked for
    result.stdout.fnmatch_lines(["no report written: *: *; name a place with --harness-report PATH"])
    (project.path / "reports").write_text("in the way", "utf-8")
    result = run(project)
    assert result.ret == 0  # it was not
    result.stdout.fnmatch_lines(["no report written: *: *; name a place with --harness-report PATH"])


def test_a_report_of_bad_specs_alone_replaces_an_older_one(project):
    write(project)
    run(project)
    write(project, text="x: [")
    assert run(project).ret == 2
    body = report(project)
    assert body["claims"] == []
    assert len(body["spec_errors"]) == 1
    assert "Specs that could not be read" in (project.path / "reports" / "hypotheses.md").read_text("utf-8")


def test_the_report_names_the_command_that_it_is_of(project):
    write(project, text=spec(SUPPORTED, REFUTED))
    run(project, "-k", "a4")
    command = report(project)["command"]
    assert command.startswith("pytest ")
    assert " --harness-device=cpu -k a4" in command


def test_specs_outside_the_root_keep_their_records_apart(project, tmp_path_factory):
    paths = []
    for name, claim in (("one", SUPPORTED), ("two", REFUTED.replace("s12-breaks-a3", "s12-breaks-a4"))):
        path = tmp_path_factory.mktemp(name) / f"{name}.yaml"
        path.write_text(spec(claim), "utf-8")
        paths.append(str(path))
    result = run(project, paths[1], f"--rootdir={project.path}", claims=paths[0])
    assert result.ret == 1
    result.stdout.fnmatch_lines(["2 claims evaluated: 1 refuted, 1 supported; 1 not as their specs say"])


def test_trouble_that_nobody_foresaw_is_an_error_too(project, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA out of memory\nand more")

    monkeypatch.setattr(harness.judging.evaluation, "judge", fail)
    write(project)
    result = run(project)
    assert result.ret == 2
    result.assert_outcomes(errors=1)
    assert report(project)["claims"][0]["problems"] == ["RuntimeError: CUDA out of memory"]


def test_runxfail_takes_xfails_away(project):
    write(project, text=spec(KNOWN))
    result = run(project, "--runxfail")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["1 claim evaluated: 1 refuted; 1 not as their specs say"])


def test_an_id_with_a_dot_is_shown_as_it_is(project):
    write(project, text=spec(SUPPORTED.replace("id: s12", "id: D4.T1")))
    result = run(project, "-v")
    result.stdout.fnmatch_lines(["claims/a.yaml::D4.T1-breaks-a4 PASSED*"])


def test_a_device_that_is_not_here(project):
    write(project)
    result = run(project, "--harness-device=tpu")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["expected a device auto, cpu or cuda[[]:N], found tpu; choose one of them"])


def test_what_a_stopped_run_did_not_reach_is_told_and_listed(project):
    write(project, text=spec(REFUTED, SUPPORTED))
    result = run(project, "-x")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["no verdict on 1 more, as the run was stopped"])
    body = report(project)
    assert body["unreached"] == ["claims/a.yaml::s12-breaks-a4"]
    assert body["summary"] == {"refuted": 1}
    text = (project.path / "reports" / "hypotheses.md").read_text("utf-8")
    assert "## Not judged, as the run was stopped\n\n- `claims/a.yaml::s12-breaks-a4`\n" in text
    run(project)
    assert report(project)["unreached"] == []


SKIPS = """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.skip("too quick"))
"""


def test_what_a_project_skips_itself_was_reached_and_no_run_was_stopped(project):
    project.makeconftest(SKIPS)
    write(project, text=spec(KNOWN, SUPPORTED))
    result = run(project)
    result.assert_outcomes(xfailed=1, skipped=1)
    result.stdout.no_fnmatch_line("*as the run was stopped*")
    assert report(project)["unreached"] == []
    assert "Not judged" not in (project.path / "reports" / "hypotheses.md").read_text("utf-8")


def test_collecting_alone_judges_nothing_and_writes_nothing(project):
    write(project)
    result = run(project, "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["claims/a.yaml::s12-breaks-a4"])
    assert not (project.path / "reports").exists()


@pytest.mark.slow
def test_workers_share_the_work_and_one_of_the_processes_writes(project):
    write(project, text=spec(SUPPORTED, REFUTED, KNOWN))
    write(project, "bad.yaml", spec(SUPPORTED).replace("S12", "S99"))
    one = run(project)
    alone = report(project)
    assert one.ret == 2
    result = project.runpytest_subprocess(
        "claims/", f"--harness-fixtures={FIXTURES}", "--harness-device=cpu", "-n", "2", "-p", "harness.plugin"
    )
    assert result.ret == 2
    result.assert_outcomes(passed=1, failed=1, xfailed=1, errors=1)
    result.stdout.fnmatch_lines(["REFUTED: S12 makes A3.", "3 claims evaluated: *", "wrote reports/hypotheses.json"])
    assert strip_times(report(project)) == strip_times(alone)


OTHER_VERBS = """\
  - id: answers
    claim: It answers base-add questions.
    answer: whole
    questions: ba
    expect: {accuracy_at_least: 0.9}
  - id: worse-than-itself
    claim: A seed of the quick recipe answers better by a tenth.
    fixtures: quick_d5_l2_s0
    than: FIXTURE
    answer: whole
    questions: {n: 1000}
    expect: {gain_at_least: 0.1}
  - id: looks
    claim: At S12 head L0H0 looks at D0.
    attend: {node: S12L0H0, to: [D0]}
    questions: ba
    expect: {mass_at_least: 0.9}
  - id: learns
    claim: The units are learned after A5.
    fixtures: "quick_d5_l2_s*"
    learn: {first: [A5], before: [A0], below: 1.0}
""".replace("FIXTURE", FIXTURE)


@pytest.mark.slow
def test_verbs_that_cut_nothing_are_shown_and_written_by_one_process_and_by_two(project):
    write(project, text=spec(OTHER_VERBS))
    result = run(project)
    assert result.ret == 1
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines([
        "REFUTED: A seed of the quick recipe answers better by a tenth.",
        f"answers of quick_d5_l2_s0 against {FIXTURE} · clean · 1000 × uniform, seed 0 (sample of 1000)",
        "gain *gain ≥ 10 points*against*contradicted",
        "REFUTED: At S12 head L0H0 looks at D0.",
        f"{FIXTURE} · S12L0H0 to D0 · attention · ba (census of 17) · clean accuracy 100%",
        "mass *≥ 0.9*contradicted",
        "supported *answers *answers *clean *ba *right ≥ 90% *whole 17/17 (100%)",
        "supported *learns *in > 50% of training*runs 8/8 (100%)",
        "4 claims evaluated: 2 refuted, 2 supported; 2 not as their specs say",
    ])  # fmt: skip
    result.stdout.no_fnmatch_line("*Traceback*")
    alone = report(project)
    assert set(alone["claims"][3]["weights"]) == {f"quick_d5_l2_s{i}" for i in range(8)}
    project.runpytest_subprocess(
        "claims/", f"--harness-fixtures={FIXTURES}", "--harness-device=cpu", "-n", "2", "-p", "harness.plugin"
    )
    assert strip_times(report(project)) == strip_times(alone)


def strip_times(body):
    body.pop("command")
    for claim in body["claims"]:
        claim.pop("seconds")
    return body


@pytest.mark.slow
def test_installed_and_in_conftest_it_is_loaded_once(project):
    """`pytest_plugins` in conftest.py names the plugin that the entry point may have registered already."""
    project.makeconftest('pytest_plugins = ["harness.plugin"]')
    write(project)
    result = project.runpytest_subprocess(
        "claims/", "--co", "-q", "-p", "harness.plugin", f"--harness-fixtures={FIXTURES}"
    )
    assert result.ret == 0
    assert result.stdout.str().count("claims/a.yaml::s12-breaks-a4") == 1


def test_the_entry_point_has_the_modules_own_name():
    import tomllib

    entry = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["pytest11"]
    assert entry == {"harness.plugin": "harness.plugin"}
    assert '"harness.plugin"' in (ROOT / "conftest.py").read_text("utf-8")


IMPORTS_TORCH = textwrap.dedent("""
    import sys, pytest
    code = pytest.main(sys.argv[1:])
    print("torch loaded:", "torch" in sys.modules)
    sys.exit(code)
""")


@pytest.mark.slow
@pytest.mark.parametrize(("bad", "loaded"), [(True, False), (False, True)])
def test_a_bad_spec_is_refused_without_torch_and_this_test_can_fail(project, bad, loaded):
    write(project, text=spec(SUPPORTED).replace("S12", "S99") if bad else spec(SUPPORTED))
    script = project.makepyfile(script=IMPORTS_TORCH)
    result = project.run(sys.executable, script, "claims/", f"--harness-fixtures={FIXTURES}", "-p", "harness.plugin")
    assert result.ret == (2 if bad else 0)
    result.stdout.fnmatch_lines([f"torch loaded: {loaded}"])
