"""The CI files and the snippets in docs/ci.md are well-formed, and every command that they name exists."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
from paths import FIXTURES, HYPOTHESES, ROOT
from ruamel.yaml import YAML

from harness.cli import command as cli

WORKFLOW = ROOT / ".github" / "workflows" / "checks.yml"
DOC = (ROOT / "docs" / "ci.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOC, re.DOTALL | re.MULTILINE)


def parsed(text):
    return YAML(typ="safe", pure=True).load(text)


def scripts():
    """Yield every shell script of the CI files and the snippets, each with where it is from."""
    for where, text in (("checks.yml", WORKFLOW.read_text("utf-8")), ("GitHub in ci.md", snippets("yaml")[0])):
        for job, content in parsed(text)["jobs"].items():
            for step in content["steps"]:
                assert len({"run", "uses"} & step.keys()) == 1, (where, job, step)
                if "run" in step:
                    yield f"{where}: {job}", step["run"]
    for job, content in parsed(snippets("yaml")[1]).items():
        for key in ("before_script", "script"):
            for line in content.get(key, []):
                yield f"GitLab in ci.md: {job}", line
    for script in snippets("bash"):
        yield "Slurm in ci.md", script


SCRIPTS = list(scripts())


def commands(program):
    """Return the arguments of every call of a program, its variables and what else the shell fills in left as words."""
    found = []
    for _, script in SCRIPTS:
        for line in script.replace("\\\n", " ").splitlines():
            calls = re.findall(rf"(?:^|[\s(])(?:\.venv/bin/)?{program} (.*)", line)
            found += [shlex.split(re.sub(r"\| cut.*", "", call).replace("$(", "").replace(")", "")) for call in calls]
    return found


def test_there_are_scripts_of_all_kinds():
    assert len({where for where, _ in SCRIPTS}) == 8
    assert len(commands("make")) == 5
    assert len(commands("harness")) == 4
    assert len(commands("pytest")) == 5


@pytest.mark.parametrize(("where", "script"), SCRIPTS)
def test_the_shell_can_read_it(where, script):
    subprocess.run(["bash", "-n"], input=script.replace("${{", "").replace("}}", ""), text=True, check=True)


def test_what_make_is_asked_for_is_a_target():
    for (target,) in commands("make"):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_harness_understands_what_it_is_told():
    for arguments in commands("harness"):
        assert callable(cli._parser().parse_args(arguments).run), arguments


def test_pytest_knows_the_options_and_the_directories_are_there(pytestconfig):
    for first, *options in commands("pytest"):
        assert first in ("hypotheses/", "hypotheses/$name")
        for option in options:
            if option.startswith("--"):
                assert pytestconfig.getoption(option, default="unknown") != "unknown", option


def test_pull_requests_do_not_reach_ones_own_machines_and_only_those_who_ask_have_them():
    jobs = parsed(WORKFLOW.read_text("utf-8"))["jobs"]
    own = {name for name, job in jobs.items() if "self-hosted" in job["runs-on"]}
    assert own == {"gpu"}
    assert "vars.HARNESS_GPU == 'true'" in jobs["gpu"]["if"]
    assert "github.event_name != 'pull_request'" in jobs["gpu"]["if"]


def test_the_files_that_caches_are_keyed_by_are_there():
    text = WORKFLOW.read_text("utf-8")
    keyed = re.findall(r"^ {12}(\S+\.(?:txt|toml))$", text, re.MULTILINE)
    keyed += re.findall(r"files: \[([^]]+)\]", DOC)
    assert len(keyed) == 9
    assert all((ROOT / path).is_file() for path in keyed)
    assert (FIXTURES / parsed(text)["jobs"]["gpu"]["env"]["TRAINED"] / "recipe.yaml").is_file()


def test_the_array_has_a_task_for_each_fixture():
    (script,) = snippets("bash")
    names = re.search(r"fixtures=\((.*)\)", script)[1].split()
    assert f"--array=0-{len(names) - 1}\n" in script
    assert all((FIXTURES / name).is_dir() and (HYPOTHESES / name).is_dir() for name in names)


def test_no_registry_is_named():
    for text in (WORKFLOW.read_text("utf-8"), DOC, MAKEFILE):
        assert not re.search(r"pypi\.|index-url|pythonhosted", text)
