"""`vlret cluster` without a cluster; tests/slurm has one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vlret.cluster.check import submission
from vlret.cluster.recover import drivers, last_command, run_names
from vlret.cluster.slurm import read_profile

ROOT = Path(__file__).parents[1]
RUN = "SLURM run ID: {}\nBuilding DAG of jobs...\n"


def vlret(folder, *words):
    """Run `vlret cluster …` without Slurm: exit code, output and error."""
    command = [sys.executable, "-m", "vlret", "cluster", *words]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_each_check_reports_that_slurm_is_missing(tmp_path):
    shutil.copytree(ROOT / "profiles" / "slurm", tmp_path / "slurm")
    code, output, error = vlret(tmp_path, "check")
    assert code == 1
    assert all(line.startswith("wrong") for line in output.splitlines())
    assert "srun: not found; is this a login node of the cluster?" in output
    assert error.startswith("vlret: error: ")
    assert "Traceback" not in output + error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "slurm/config.yaml: no such file; run this at the top of the repository"),
        ("a: [", "slurm/config.yaml, line 1: not valid YAML"),
        ("executor: slurm", "slurm/config.yaml: default-resources: missing"),
        ("default-resources: {runtime: 5}", "slurm/config.yaml: default: slurm_partition: missing"),
    ],
)
def test_a_wrong_profile_is_named(tmp_path, text, message):
    if text:
        (tmp_path / "slurm").mkdir()
        (tmp_path / "slurm" / "config.yaml").write_text(text)
    code, _, error = vlret(tmp_path, "check")
    assert code == 1
    assert error.startswith(f"vlret: error: {message}")
    assert len(error.splitlines()) == 1


def test_the_largest_request_is_that_of_the_last_attempt():
    wants = {"slurm_partition": "gpu", "mem_mb": "8000 * attempt", "runtime": 30, "slurm_extra": "'--signal=USR1@9'"}
    assert submission(wants, 3) == ["--partition=gpu", "--mem=24000", "--time=30", "--signal=USR1@9"]


def test_every_rule_of_the_profile_exists():
    profile = read_profile(ROOT / "profiles" / "slurm")
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    named = {*profile["set-resources"], *(group.partition("=")[0] for group in profile["groups"])}
    assert all(re.search(rf"rule {rule}:|as {rule} with:", rules) for rule in named), named


def test_a_derived_rule_gets_the_resources_of_its_base():
    profile = read_profile(ROOT / "profiles" / "slurm")
    groups = dict(group.split("=") for group in profile["groups"])
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    pairs = re.findall(r"^use rule (\w+) as (\w+) with:", rules, re.MULTILINE)
    assert ("train", "pretrain") in pairs
    for first, second in pairs:
        assert profile["set-resources"].get(second) == profile["set-resources"].get(first), second
        assert groups.get(second) == groups.get(first), second


def test_runs_are_found_in_the_logs_newest_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = tmp_path / ".snakemake" / "log"
    logs.mkdir(parents=True)
    command = "  Command: /somewhere/bin/snakemake --profile slurm --configfile own.yaml results/table.tex\n"
    (logs / "2026-01-01T000000.0.snakemake.log").write_text(RUN.format("first"))
    (logs / "2026-01-02T000000.0.snakemake.log").write_text(command + RUN.format("second"))
    (logs / "2026-01-03T000000.0.snakemake.log").write_text("  Command: snakemake -n\nBuilding DAG of jobs...\n")
    assert run_names() == ["second", "first"]
    assert last_command() == "snakemake --profile slurm --configfile own.yaml results/table.tex"


def test_nothing_is_recovered_where_nothing_was_run(tmp_path):
    code, output, error = vlret(tmp_path, "recover")
    assert code == 0
    assert output == "Now rerun: snakemake --profile slurm results/table.tex\n"
    assert error == "no job of a killed run is left\n"


def test_a_running_driver_is_found_and_a_job_is_not(tmp_path):
    script = tmp_path / "snakemake"
    script.write_text("import sys; print(flush=True); sys.stdin.read()")
    environments = {"driver": {}, "job": {"SLURM_JOB_ID": "1"}}
    plain = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    processes = {
        kind: subprocess.Popen(
            [sys.executable, script], cwd=tmp_path, env=plain | added, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for kind, added in environments.items()
    }
    for process in processes.values():
        process.stdout.readline()
    assert drivers(tmp_path) == [processes["driver"].pid]
    for process in processes.values():
        process.communicate()
    assert drivers(tmp_path) == []


def test_the_profile_avoids_the_traps():
    """The traps of docs/cluster.md; each is a key that must survive edits."""
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    assert profile["slurm-status-command"] == "squeue"
    assert profile["slurm-requeue"] is True
    assert profile["slurm-status-attempts"] >= 60
    assert "slurm-array-jobs" not in profile
    assert not any(resource.startswith("mem_mb") for resource in profile["resources"])
    assert (ROOT / "slurm" / "config.yaml").samefile(ROOT / "profiles" / "slurm" / "config.yaml")
