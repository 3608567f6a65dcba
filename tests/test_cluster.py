"""`vlret cluster` without a cluster; tests/slurm has one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vlret.cluster.check import submission, trainings
from vlret.cluster.recover import drivers, last_command, run_names
from vlret.cluster.slurm import read_profile
from vlret.files import InputError
from vlret.planned import ON_GPUS

ROOT = Path(__file__).parents[1]
RUN = "SLURM run ID: {}\nBuilding DAG of jobs...\n"


def vlret(folder, *words):
    """Run `vlret cluster …` without Slurm: exit code, output and error."""
    command = [sys.executable, "-m", "vlret", "cluster", *words]
    only = folder / "bin"
    only.mkdir(exist_ok=True)
    for name in ("bash", "which"):  # which Snakemake calls when it is imported
        if not (only / name).exists():
            (only / name).symlink_to(shutil.which(name))
    environment = {**os.environ, "PATH": str(only)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_each_check_reports_that_slurm_is_missing(tmp_path):
    shutil.copytree(ROOT / "profiles" / "slurm", tmp_path / "slurm")
    code, output, error = vlret(tmp_path, "check")
    assert code == 1
    assert all(line.startswith("wrong") for line in output.splitlines() if line[6:12] != "config")
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


@pytest.mark.parametrize(
    ("wants", "options"),
    [
        ({"mem": "8GB", "runtime": "4h"}, ["--mem=8000", "--time=240"]),
        ({"mem_mb": "min(8000 * attempt, 12000)", "runtime": "'1d'"}, ["--mem=12000", "--time=1440"]),
        ({"gres": "gpu:a100:1", "nodes": 2, "tasks": 2, "cpus_per_task": 8}, ["--gres=gpu:a100:1", "--nodes=2"]),
        ({"slurm_account": "a-b", "constraint": "a100"}, ["--account=a-b", "--constraint=a100"]),
    ],
)
def test_resources_are_read_as_snakemake_reads_them(wants, options):
    found = submission({"slurm_partition": "gpu,big", **wants}, 2)
    assert found[0] == "--partition=gpu,big"
    assert set(options) <= set(found)


@pytest.mark.parametrize("wants", [{"mem_mb": "2000 * attempts"}, {"runtime": "soon"}, {"mem": "much"}])
def test_a_resource_that_is_no_number_is_named(wants):
    ((name, value),) = wants.items()
    with pytest.raises(InputError, match=rf"^{name}: '{re.escape(value)}' is no number, time or size, and no formula"):
        submission({"slurm_partition": "gpu", **wants}, 1)


def test_the_gpus_and_nodes_of_the_configs_trainings_are_found(tmp_path, monkeypatch):
    for name in ("config", "slurm"):
        (tmp_path / name).symlink_to((ROOT / name).resolve())
    (tmp_path / "many.yaml").write_text("training: {tuning: {full: {gpus: 2, nodes: 4}}}")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.yaml").write_text("configfile: [config/config.yaml, many.yaml]")
    monkeypatch.chdir(tmp_path)
    told, found = trainings(Path("own"))
    assert told == "config/config.yaml, many.yaml: trainings on nodes x GPUs: 1 x 1, 4 x 2"
    assert found[1] == {"gres": "gpu:2", "nodes": 4, "tasks": 4, "cpus_per_task": 2}
    (tmp_path / "many.yaml").unlink()
    assert trainings(Path("own")) == (
        "many.yaml: not in this folder, so GPUs and nodes of trainings are not checked",
        [],
    )


def test_a_run_of_another_host_is_not_cancelled_without_asking(tmp_path):
    logs = tmp_path / ".snakemake" / "log"
    logs.mkdir(parents=True)
    log = logs / "2026-01-01T000000.0.snakemake.log"
    log.write_text("  Host: login2\n" + RUN.format("first"))
    code, _, error = vlret(tmp_path, "recover")
    assert code == 1
    assert error.startswith(
        "vlret: error: .snakemake/log/2026-01-01T000000.0.snakemake.log: this run was started on login2"
    )
    assert "squeue: not found" in vlret(tmp_path, "recover", "--force")[2]
    log.write_text(f"{log.read_text()}Complete log(s): x\n")
    assert "squeue: not found" in vlret(tmp_path, "recover")[2]


def test_every_rule_of_the_profile_exists():
    profile = read_profile(ROOT / "profiles" / "slurm")
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    named = {*profile["set-resources"], *(group.partition("=")[0] for group in profile["groups"])}
    assert all(re.search(rf"rule {rule}:|as {rule} with:", rules) for rule in named), named


def test_the_plan_counts_the_gpus_of_the_rules_that_the_profile_gives_one():
    profile = read_profile(ROOT / "profiles" / "slurm")
    partition = profile["set-resources"]["train"]["slurm_partition"]
    assert {
        rule for rule, own in profile["set-resources"].items() if own.get("slurm_partition") == partition
    } == ON_GPUS


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
