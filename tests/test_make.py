"""What `make` and `workflow/run.sh` do before any of our Python runs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vlret.config import check, load_config, read
from vlret.experiment import trained
from vlret.layout import Layout

ROOT = Path(__file__).parents[1]


def make(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCK", "MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--file", ROOT / "Makefile", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- Installing ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder where an installation is quickly done: what stands for Python and uv writes down how it was called."""
    (tmp_path / "envs").mkdir()
    for name in ("cpu", "gpu"):
        (tmp_path / "envs" / f"{name}.txt").touch()
    (tmp_path / "pyproject.toml").touch()
    program = tmp_path / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$0 $*" >> called\n')
    program.chmod(0o755)
    shutil.copy(program, program.with_name("uv"))
    return tmp_path


def installed(folder: Path, *arguments: str) -> list[str]:
    """The locks that are installed by a call."""
    (folder / "called").unlink(missing_ok=True)
    make(folder, "install", f"PYTHON={folder}/.venv/bin/python", *arguments)
    called = (folder / "called").read_text().splitlines() if (folder / "called").exists() else []
    return [line.rpartition(" ")[2] for line in called if "--requirement" in line]


def test_another_lock_is_installed_over_the_first_and_then_stays(fake: Path):
    assert installed(fake) == ["envs/cpu.txt"]
    assert installed(fake) == []
    assert installed(fake, "LOCK=envs/gpu.txt") == ["envs/gpu.txt"]
    assert installed(fake) == []
    assert installed(fake, "LOCK=envs/gpu.txt") == []
    assert installed(fake, "LOCK=envs/cpu.txt") == ["envs/cpu.txt"]


def test_a_newer_lock_is_installed(fake: Path):
    assert installed(fake, "LOCK=envs/gpu.txt") == ["envs/gpu.txt"]
    marker = (fake / ".venv" / "installed").stat().st_mtime
    os.utime(fake / "envs" / "gpu.txt", (marker + 1, marker + 1))
    assert installed(fake) == ["envs/gpu.txt"]


# ---- Cleaning --------------------------------------------------------------------------------------------------------


def results(folder: Path) -> dict[Path, list[Path]]:
    """All that the cut-down grid makes, in an empty shape, each with what it is made from; its search has an index."""
    parts = [(path, read(ROOT / path)) for path in ("config/models.yaml", "tests/cut-down.yaml")]
    layout = Layout(check([*parts, ("index", {"retrieval": {"index": "IVF4,Flat"}})]), ROOT)
    waiting, made = [layout.made("table")], {}
    while waiting:
        file = waiting.pop()
        if file.rule and Path(file) not in made:
            read_from = [each for files in layout.job(file.rule, file.wildcards).files().values() for each in files]
            made[Path(file)] = [Path(each) for each in read_from if each.rule]
            waiting += read_from
    for path in made:
        path = folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix and not path.is_dir() else path.mkdir(exist_ok=True)
    return made


def test_clean_keeps_what_took_long_and_all_that_it_was_made_from(tmp_path: Path):
    made = results(tmp_path)
    make(tmp_path, "clean")
    kept = {path for path in made if (tmp_path / path).exists()}
    assert {source for path in kept for source in made[path]} <= kept
    kinds = {path.parts[2] for path in kept if path.parts[1] == "cut-down"}
    assert {"data", "features", "lexical", "negatives", "checkpoints", "embeddings", "indices"} <= kinds
    assert {path.parts[1] for path in kept} == {"cut-down", "downloads"}
    assert {path.parts[2] for path in made.keys() - kept if len(path.parts) > 2} == {"runs", "ablations", "metrics"}
    assert not list((tmp_path / "results").glob("table*"))
    checkpoints = {path.name for path in kept if "checkpoints" in path.parts}
    experiments = trained(load_config(["tests/cut-down.yaml"]))
    assert checkpoints >= {experiment.name for experiment in experiments if experiment.tuning != "zs"}


def test_distclean_says_how_much_it_removes_and_leaves_ones_own_files(tmp_path: Path):
    for name in ("vlret/__pycache__", "tests", "benchmarks", ".venv", ".snakemake", "mine"):
        (tmp_path / name).mkdir(parents=True)
    results(tmp_path)
    (tmp_path / "mine" / "train.jsonl").write_text("{}")
    (tmp_path / "results" / "train.jsonl").symlink_to(tmp_path / "mine" / "train.jsonl")
    told = make(tmp_path, "distclean")
    sizes = [line.split("\t")[1] for line in told.splitlines() if "\t" in line and "du " not in line]
    assert sizes == ["results", ".snakemake", ".venv", "total"]
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"vlret", "tests", "benchmarks", "mine", "mine/train.jsonl"}


# ---- Where it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "with_flock"), [("Linux", False), ("Darwin", True)])
def test_without_linux_or_flock_the_run_ends_with_one_line(tmp_path: Path, system: str, with_flock: bool):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "uname").write_text(f"#!/bin/sh\necho {system}\n")
    (programs / "uname").chmod(0o755)
    for name in ("mkdir", *(["flock"] if with_flock else [])):
        (programs / name).symlink_to(shutil.which(name))
    command = [shutil.which("bash"), ROOT / "workflow" / "run.sh", "--cores", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "this runs on Linux, with flock" in done.stderr
    assert not (tmp_path / ".snakemake").exists()
