"""The locks, the conda environments and pyproject.toml agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def pins(kind):
    lines = (ROOT / "envs" / f"{kind}.txt").read_text().splitlines()
    return dict(line.split(" ;")[0].split("==") for line in lines)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_conda_environment_equals_the_lock(kind):
    dependencies = yaml.safe_load((ROOT / "envs" / f"{kind}.yaml").read_text())["dependencies"]
    assert dependencies[:2] == ["python=3.11", "pip"]
    assert dependencies[2]["pip"] == (ROOT / "envs" / f"{kind}.txt").read_text().splitlines()
    assert (ROOT / "envs" / f"{kind}.post-deploy.sh").is_file(), "Snakemake would not install vlret itself"


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_lock_satisfies_the_requirements(kind):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [Requirement(line) for line in [*project["dependencies"], *extras["dev"], *extras[kind]]]
    locked = pins(kind)
    for requirement in asked:
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_locks_differ_only_in_faiss():
    cpu, gpu = pins("cpu"), pins("gpu")
    assert cpu.keys() - gpu.keys() == {"faiss-cpu"}
    others = {name for name in gpu.keys() - cpu.keys() if not re.fullmatch(r"nvidia-.*-cu12", name)}
    assert others == {"faiss-gpu"}
    assert all(cpu[name] == gpu[name] for name in cpu.keys() & gpu.keys())


def test_the_package_says_that_it_has_types():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert data == {"vlret": ["py.typed"]}
    assert (ROOT / "vlret" / "py.typed").is_file()


def test_the_makefile_pins_uv():
    assert re.search(r"^UV_VERSION := \d+\.\d+\.\d+$", (ROOT / "Makefile").read_text(), re.MULTILINE)
