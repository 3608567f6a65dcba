"""What catalogs, hosts and tools look for in a repository: it is there, and says what is so."""

import re
from pathlib import Path

import pytest
import yaml

import vlret

ROOT = Path(__file__).parents[1]
CATALOG, CITATION = ".snakemake-workflow-catalog.yml", "CITATION.cff"
HOOKS, CI = ".pre-commit-config.yaml", ".github/workflows/ci.yml"
PAGES = (CATALOG, CITATION, HOOKS, CI, "CONTRIBUTING.md", "config/README.md")


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_every_path_that_is_named_exists(name: str):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w./-])(?:(?:config|docs|envs|rules|tests|vlret|workflow|\.github)/[\w./-]*\w|\w+\.toml)", text
    )
    missing = sorted({path for path in named if not (ROOT / path).exists()})
    assert not missing
    assert named or name in (CITATION, CI)


def test_the_workflow_catalog_is_told_how_it_is_used():
    usage = load(CATALOG)["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert all(isinstance(value, bool) for value in usage["software-stack-deployment"].values())
    for path in ("workflow/Snakefile", "config/README.md", "config/config.yaml", "README.md", "LICENSE"):
        assert (ROOT / path).is_file()


def test_the_citation_has_what_its_format_requires_and_names_no_person():
    citation = load(CITATION)
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["authors"] == [{"name": "The vlret developers"}]
    assert citation["version"] == vlret.__version__
    assert (ROOT / "LICENSE").read_text().startswith(f"{citation['license']} License")


def test_hooks_have_the_versions_of_the_lock():
    lock = (ROOT / "envs" / "cpu.txt").read_text().splitlines()
    hooks = [hook for repository in load(HOOKS)["repos"] for hook in repository["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} == {"ruff", "snakefmt"}
    for hook in hooks:
        assert set(hook["additional_dependencies"]) <= set(lock), hook["id"]


def test_ci_lints_and_runs_the_quick_tests_on_the_python_of_the_lock():
    steps = load(CI)["jobs"]["quick"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands[0] == "make lint"
    assert commands[1].endswith('pytest -m "not slow"')
    assert {step["with"]["python-version"] for step in steps if "with" in step} == {"3.11"}
