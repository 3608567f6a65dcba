"""`vlret status` beside real runs of Snakemake: while one runs, after it failed, after it was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import Toy

from vlret.config import load_config
from vlret.files import read_json, write_json
from vlret.jobs import newest_run
from vlret.layout import Layout
from vlret.made import write_note
from vlret.status import expected, overview, stages, states
from vlret.training import report
from vlret.training.learner import Learner
from vlret.training.train import train

ADAPTER = "vlminilm_adapter_none_avg"

# `bad` leaves a log that looks like Snakemake's; `slow` waits for a file.
SNAKEFILE = """
rule all:
    input: "out/bad", "out/last"
rule good:
    output: "out/good"
    log: "logs/good.log"
    shell: "echo 'good is well' > {log}; touch {output}"
rule bad:
    output: "out/bad"
    log: "logs/bad.log"
    shell: "printf 'rule good:\\\\n    jobid: 1\\\\nError in rule slow:\\\\n    jobid: 3\\\\nbad is broken\\\\n' "
        "> {log}; exit 1"
rule slow:
    input: "out/good"
    output: "out/slow"
    log: "logs/slow.log"
    shell: "printf 'slow: begun\\\\nslow: 10 %%\\\\rslow: 20 %%\\\\r' > {log}; until [ -e gate ]; do sleep 0.1; done"
        "; touch {output}"
rule last:
    input: "out/slow"
    output: "out/last"
    shell: "touch {output}"
"""
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--show-failed-logs"]


@pytest.fixture(scope="module")
def layout():
    return Layout(load_config([Path("config/config.yaml")]), Path())


@pytest.fixture
def folder(tmp_path, monkeypatch, layout):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows():
    """Counts of done, running, queued and failed jobs of each stage, and its last log line."""
    return {row[0]: row[1:] for row in stages({}, newest_run())[1:]}


def start_blocked(folder):
    """A run that blocks until it is killed or `gate` exists."""
    run = subprocess.Popen(COMMAND, cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (folder / "logs" / "slow.log").exists() or rows().get("bad", (0, 0, 0, 0))[3] == 0:
        assert run.poll() is None, "it ended"
        time.sleep(0.1)
    return run


@pytest.mark.slow
def test_jobs_are_counted_while_they_run_after_a_kill_and_after_the_end(folder, layout):
    assert overview(layout, {}, newest_run()).startswith("nothing was run here yet")
    run = start_blocked(folder)
    assert rows() == {
        "all": (0, 0, 1, 0, ""),
        "bad": (0, 0, 0, 1, "bad is broken"),
        "good": (1, 0, 0, 0, "good is well"),
        "last": (0, 0, 1, 0, ""),
        "slow": (0, 1, 0, 0, "slow: 20 %"),
    }
    text = overview(layout, {}, newest_run())
    assert f"1 of 5 jobs done, running on {os.uname().nodename}" in text
    assert text.endswith("failed: bad, logs/bad.log: bad is broken")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert rows()["slow"][:4] == (0, 0, 1, 0)
    assert "killed while 1 jobs were running" in overview(layout, {}, newest_run())
    (folder / "gate").touch()
    subprocess.run([*COMMAND, "--unlock"], cwd=folder, capture_output=True, check=True)
    again = subprocess.run([*COMMAND, "--rerun-incomplete"], cwd=folder, capture_output=True, check=False)
    assert again.returncode == 1
    subprocess.run([*COMMAND, "--dry-run"], cwd=folder, capture_output=True, check=True)
    assert "2 of 4 jobs done, ended on" in overview(layout, {}, newest_run())
    assert rows()["slow"][:4] == (1, 0, 0, 0)
    assert rows()["bad"][:4] == (0, 0, 0, 1)


@pytest.mark.parametrize("command", ["status --watch", "grid --status"])
def test_a_closed_pipe_is_no_error(command):
    line = f"{sys.executable} -m vlret {command} | true"
    assert subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stderr == ""


def log(folder, *lines):
    """A log of a run on another host, which is assumed to be running."""
    head = [
        "  Host: elsewhere",
        "Job stats:",
        "job      count",
        "-----  -------",
        "train        2",
        "total        2",
        "",
    ]
    path = folder / ".snakemake" / "log" / "2026-11-22T000000.0.snakemake.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, "[Sun Nov 22 07:47:27 2026]", *lines]) + "\n")


def started(number, name):
    output = f"    output: results/sample/checkpoints/{name}"
    return ["rule train:", output, f"    log: logs/{name}.log", f"    jobid: {number}"]


def test_a_slurm_job_is_queued_until_it_writes_its_log_and_again_after_a_restart(folder, layout):
    submitted = "Job 7 has been submitted with SLURM jobid 17 (log: 17.log)."
    log(folder, *started(7, ADAPTER), submitted)
    assert rows()["train"][:4] == (0, 0, 2, 0)
    assert states(layout, newest_run())[ADAPTER] == "to run"
    (folder / "logs").mkdir()
    (folder / "logs" / f"{ADAPTER}.log").write_text("begun\n")
    assert rows()["train"] == (0, 1, 1, 0, "begun")
    assert states(layout, newest_run())[ADAPTER] == "running"
    failed = ["Error in rule train:", "    message: SLURM-job '17' failed", "    jobid: 7"]
    log(folder, *started(7, ADAPTER), submitted, *failed)
    assert rows()["train"][:4] == (0, 0, 1, 1)
    assert states(layout, newest_run())[ADAPTER] == "failed"
    log(folder, *started(7, ADAPTER), submitted, *failed, "Trying to restart job 7.")
    assert rows()["train"][:4] == (0, 0, 2, 0)
    metrics = folder / "results" / "sample" / "metrics" / f"{ADAPTER}.json"
    metrics.parent.mkdir(parents=True)
    metrics.touch()
    assert states(layout, newest_run())[ADAPTER] == "done"


def test_a_row_made_with_other_settings_is_stale(folder, layout):
    metrics = layout.metrics(ADAPTER)
    Path(metrics).parent.mkdir(parents=True)
    Path(metrics).touch()
    write_note(Path(metrics), {"digest": layout.digest(metrics)})
    assert states(layout, newest_run())[ADAPTER] == "done"
    write_note(Path(metrics), {"digest": "0" * 16})
    assert states(layout, newest_run())[ADAPTER] == "stale"
    assert states(layout, newest_run())["bm25-effnet"] == "to run"


def test_jobs_of_a_group_are_distinguished(folder):
    group = ["group job 1000ec00 (jobs in lexicogr. order):", *(f"    {line}" for line in started(3, "one"))]
    error = ["Error in group 1000ec00:", "    jobs:", "        rule train:", "            jobid: 3"]
    log(folder, *group, *started(4, "two"))
    assert rows()["train"][:4] == (0, 2, 0, 0)
    log(folder, *group, *started(4, "two"), *error)
    assert rows()["train"][:4] == (0, 1, 0, 1)


def test_files_of_earlier_runs_are_done(folder, layout):
    files = expected(layout)
    assert list(files["metrics"].values()) == list(states(layout, newest_run()))
    for rule, done in (("train", 2), ("embed", 1)):
        for path in [*files[rule]][:done]:
            Path(path).mkdir(parents=True)
    counted = {row[0]: row[1:5] for row in stages(files, newest_run())[1:]}
    assert counted["train"] == (2, 0, len(files["train"]) - 2, 0)
    assert counted["embed"] == (1, 0, len(files["embed"]) - 1, 0)


def test_a_training_reports_its_progress_in_a_file(folder, layout, monkeypatch):
    toy, take = Toy(folder / "toy"), Learner.step
    out = folder / "results" / "sample" / "checkpoints" / ADAPTER

    def stopped(self, number, *rest):
        if number == 12:
            os.kill(os.getpid(), signal.SIGUSR1)
        return take(self, number, *rest)

    monkeypatch.setattr(Learner, "step", stopped)
    monkeypatch.setattr(report, "PROGRESS_SECONDS", 0.0)
    settings = toy.settings("full", validate_every=5)
    with pytest.raises(SystemExit):
        train(settings=settings, **toy.training, **toy.validation, out=out)
    row = expected_row(overview(layout, {}, newest_run()))
    assert "13 of 60  2.6" in row  # epochs of 5 batches
    assert row.endswith("running")
    assert states(layout, newest_run())[ADAPTER] == "running"
    file = out.parent / f"{ADAPTER}.training" / "progress.json"
    write_json(file, {**read_json(file), "time": time.time() - 100})
    assert "stalled for 0:01:40" in expected_row(overview(layout, {}, newest_run()))
    monkeypatch.undo()
    train(settings=settings, **toy.training, **toy.validation, out=out)
    assert ADAPTER not in overview(layout, {}, newest_run())


def expected_row(text):
    return next(line for line in text.splitlines() if line.startswith(ADAPTER))
