"""Faults on a real Slurm: each ends with the files of an undisturbed run, and a log that says what happened."""

import os
import signal
import subprocess
from collections import Counter
from contextlib import suppress

import pytest
from slurm_cluster import until
from slurm_run import ADAPTER, CHECKPOINTS, TABLE, edit_profile, overlaps, warned
from test_pipeline import digests

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

COMMAND = f"snakemake --profile slurm {TABLE}"


def compare(repository, finished, **again):
    """Check that all files equal those of the undisturbed run, and that only `again` ran repeatedly, never at once."""
    assert digests(repository.folder) == digests(finished.folder)
    verbs = Counter(start.verb.split()[1] for start in repository.trace())
    # In the same allocation as the embedding, so begun again with it.
    assert 1 <= verbs.pop("embed-questions") <= again.get("embed", 1)
    assert verbs == {"train": 1, "embed": 1, "search": 1, "metrics": 1, "table": 1, **again}
    assert not overlaps(repository.jobs("train"))


def log(repository, stage="train"):
    return (repository.folder / f"results/sample/logs/{stage}/{ADAPTER}.log").read_text()


def story(repository):
    """Slurm's logs of all jobs of the training."""
    return "".join(path.read_text() for path in (repository.folder / ".snakemake/slurm_logs/rule_train").rglob("*.log"))


def states(repository, rule="train"):
    return [job["State"].split()[0] for job in repository.jobs(rule)]


def test_jobs_out_of_memory_cancelled_or_failed_are_retried(untrained, finished, recovered):
    edit_profile(untrained.folder, {"train": {"mem_mb": "750 * attempt"}})
    untrained.fail("embed", 2)
    untrained.begin()
    second = untrained.training(2)
    until(lambda: states(untrained)[:1] in (["FAILED"], ["OUT_OF_MEMORY"]), 10, "end of the job without memory")
    subprocess.run(["scancel", second.job], check=True)
    cancelled = untrained.now()
    recovered("scancel: until training resumed", untrained.started("train", 3).seconds - cancelled)
    said = untrained.end()
    compare(untrained, finished, train=3, embed=3)
    assert states(untrained)[1:] == ["CANCELLED", "COMPLETED"]
    assert [job["ReqMem"] for job in untrained.jobs("train")] == ["750M", "1500M", "2250M"]
    assert "exceeded memory limit" in story(untrained)
    assert "SLURM status is: 'CANCELLED'" in said
    assert "resuming from step" in log(untrained)
    first, again = untrained.trace("embed")[:2]
    recovered("a job failed: until its next attempt", again.seconds - first.seconds)
    assert "a requested failure" in said
    assert [job["State"] for job in untrained.jobs("")[3:]] == ["FAILED", "FAILED", "COMPLETED"]


def test_before_its_time_limit_a_training_saves_and_resumes_seamlessly(untrained, finished, recovered):
    edit_profile(
        untrained.folder,
        {"train": {"runtime": "2 if attempt == 1 else 60", "slurm_extra": "'--open-mode=append --signal=USR1@30'"}},
    )
    untrained.begin()
    start = untrained.training()
    # It is paused until Slurm warns it, 60 to 90 s after its start.
    os.kill(start.pid, signal.SIGSTOP)
    until(lambda: warned(start.pid, signal.SIGUSR1), 120, "Slurm's signal")
    at = untrained.now()
    with suppress(ProcessLookupError):
        os.kill(start.pid, signal.SIGCONT)
    again = untrained.started("train", 2)
    recovered("time limit: from Slurm's warning until training resumed", again.seconds - at)
    said = untrained.end()
    compare(untrained, finished, train=2)
    assert states(untrained) == ["FAILED", "COMPLETED"]
    assert "stopped by SIGUSR1 after step" in said
    assert "resuming from step" in log(untrained)
    assert untrained.curve() == finished.curve()


def test_a_job_keeps_its_id_through_preemption_crash_and_restarts(untrained, finished, cluster, recovered):
    untrained.begin()
    first = untrained.training()
    command = ["sbatch", "-A", "project", "-p", "urgent", "-N2", "--exclusive", "--mem=1000", "--output=/dev/null"]
    subprocess.run([*command, "--wrap=sleep 3"], check=True)
    preempted = untrained.now()
    second = untrained.training(2)
    recovered("preemption by a job of 3 s: until training resumed", second.seconds - preempted)
    cluster.crash(second.node)
    crashed = untrained.now()
    try:
        third = untrained.training(3)
    finally:
        cluster.revive(second.node)
    recovered("node crash: until training resumed elsewhere", third.seconds - crashed)
    assert third.node != second.node
    os.kill(third.pid, signal.SIGSTOP)  # or it might end before the daemons do
    cluster.restart("slurmdbd", 5)
    cluster.restart("slurmctld", 15)
    os.kill(third.pid, signal.SIGCONT)
    said = untrained.end()
    assert first.job == second.job == third.job
    compare(untrained, finished, train=3)
    assert states(untrained) == ["PREEMPTED", "NODE_FAIL", "COMPLETED"]
    assert story(untrained).count("resuming from step") == 2
    assert said.count("has been submitted with SLURM jobid") == 2


def test_after_ctrl_c_or_a_kill_of_the_driver_the_same_command_resumes(untrained, finished, recovered):
    untrained.begin()
    untrained.training()
    assert "runs snakemake in this folder" in untrained.type("vlret cluster recover", fails=True)
    interrupted = untrained.now()
    untrained.driver.send_signal(signal.SIGINT)
    assert "Terminating processes on user request" in untrained.end(fails=True)
    recovered("Ctrl-C: until the driver had ended", untrained.now() - interrupted)
    until(lambda: not untrained.queued(), 20, "end of the jobs")
    untrained.begin()
    start = untrained.training(2)
    killed = untrained.now()
    untrained.driver.kill()
    untrained.end(fails=True)
    assert start.job in untrained.queued()
    assert "Error: Directory cannot be locked" in untrained.type(COMMAND, fails=True)
    said = untrained.type("vlret cluster recover")
    recovered(
        "kill -9 of the driver: with `vlret cluster recover`, until it could be started again", untrained.now() - killed
    )
    assert f"{start.job} (RUNNING)" in said
    assert f"Now rerun: {COMMAND}" in said
    assert untrained.queued() == []
    assert "no job of a killed run is left" in untrained.type("vlret cluster recover")
    untrained.begin()
    untrained.end()
    compare(untrained, finished, train=3, recover=3)
    assert states(untrained) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert "resuming from step" in log(untrained)


def test_a_hanging_node_with_a_live_job_corrupts_nothing(untrained, finished, cluster, recovered):
    untrained.begin()
    first = untrained.training()
    os.kill(first.pid, signal.SIGSTOP)
    cluster.hang(first.node)
    hung = untrained.now()
    try:
        second = untrained.started("train", 2)
        until(lambda: "taking over" in log(untrained), 120, "the second copy's taking over")
        recovered("node hangs, its job alive: until a copy elsewhere took over", untrained.now() - hung)
        until((untrained.folder / CHECKPOINTS / ADAPTER).exists, 120, "the second copy's checkpoint")
        os.kill(first.pid, signal.SIGCONT)
        untrained.end()
    finally:
        cluster.revive(first.node)
    assert first.job == second.job
    assert first.node != second.node
    compare(untrained, finished, train=2)
    assert "stalled for 30 s; taking over" in log(untrained)
