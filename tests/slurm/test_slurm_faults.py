"""Faults on a real Slurm: each ends in the files of an undisturbed run, and a log that says what happened."""

import os
import signal
import subprocess
from collections import Counter

import pytest
from slurm_cluster import until
from slurm_run import ADAPTER, TABLE, edit_profile, overlaps, pending
from test_pipeline import digests

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

COMMAND = f"snakemake --profile slurm {TABLE}"
RUNNING = ("RUNNING", "COMPLETING", "PENDING")


def compare(repository, finished, **again):
    """That all files are those of the undisturbed run, only `again` was done twice, and nothing twice at once."""
    assert digests(repository.folder) == digests(finished.folder)
    verbs = Counter(start.verb.split()[1] for start in repository.trace())
    assert verbs == {"train": 1, "embed": 1, "search": 1, "metrics": 1, "table": 1, **again}
    assert not overlaps(repository.jobs("train"))


def log(repository, stage="train"):
    return (repository.folder / f"results/sample/logs/{stage}/{ADAPTER}.log").read_text()


def states(repository, rule="train"):
    return [job["State"].split()[0] for job in repository.jobs(rule)]


def test_out_of_memory_gets_more_and_two_failures_a_third_attempt(untrained, finished, recovered):
    edit_profile(untrained.folder, {"train": {"mem_mb": "750 * attempt"}})
    untrained.fail("embed", 2)
    untrained.begin()
    said = untrained.end()
    compare(untrained, finished, train=2, embed=3)
    assert [job["ReqMem"] for job in untrained.jobs("train")] == ["750M", "1500M"]
    assert states(untrained)[1] == "COMPLETED"
    assert states(untrained)[0] in ("FAILED", "OUT_OF_MEMORY")
    assert [job["ReqMem"] for job in untrained.jobs("embed")] == ["16000M", "32000M", "48000M"]
    assert states(untrained, "embed") == ["FAILED", "FAILED", "COMPLETED"]
    assert "exceeded memory limit" in said
    assert "a failure that was asked for" in said
    first, second = untrained.trace("embed")[:2]
    recovered("a job failed: until its next attempt", second.seconds - first.seconds)


def test_before_its_time_limit_a_training_saves_and_the_next_attempt_goes_on_without_a_seam(
    untrained, finished, recovered
):
    edit_profile(untrained.folder, {"train": {"runtime": 2, "slurm_extra": "'--signal=USR1@60'"}})
    untrained.begin()
    start = untrained.training()
    # It stands still until Slurm warns it, 30 to 60 s after its start.
    os.kill(start.pid, signal.SIGSTOP)
    until(lambda: pending(start.pid, signal.SIGUSR1), 120, "Slurm's signal")
    warned = untrained.now()
    os.kill(start.pid, signal.SIGCONT)
    again = untrained.started("train", 2)
    recovered("time limit: from Slurm's warning until training went on", again.seconds - warned)
    said = untrained.end()
    compare(untrained, finished, train=2)
    assert states(untrained) == ["FAILED", "COMPLETED"]
    assert "stopped by SIGUSR1 after step" in said
    assert "going on from step" in log(untrained)
    assert untrained.curve() == finished.curve()


def test_a_cancelled_job_is_tried_again(untrained, finished, recovered):
    untrained.begin()
    start = untrained.training()
    subprocess.run(["scancel", start.job], check=True)
    cancelled = untrained.now()
    recovered("scancel: until training went on", untrained.started("train", 2).seconds - cancelled)
    said = untrained.end()
    compare(untrained, finished, train=2)
    assert states(untrained) == ["CANCELLED", "COMPLETED"]
    assert "SLURM status is: 'CANCELLED'" in said
    assert "going on from step" in log(untrained)


def test_a_preempted_job_starts_again_under_its_number(untrained, finished, recovered):
    untrained.begin()
    start = untrained.training()
    command = ["sbatch", "--parsable", "-A", "project", "-p", "urgent", "-N2", "--exclusive", "--mem=1000"]
    urgent = subprocess.run([*command, "--wrap=sleep 3"], capture_output=True, text=True, check=True).stdout.strip()
    preempted = untrained.now()
    again = untrained.started("train", 2)
    recovered("preemption by a job of 3 s: until training went on", again.seconds - preempted)
    untrained.end()
    assert again.job == start.job != urgent
    compare(untrained, finished, train=2)
    assert states(untrained) == ["PREEMPTED", "COMPLETED"]
    assert "going on from step" in log(untrained)


def test_a_crashed_nodes_job_goes_on_elsewhere(untrained, finished, cluster, recovered):
    untrained.begin()
    start = untrained.training()
    cluster.crash(start.node)
    crashed = untrained.now()
    try:
        again = untrained.started("train", 2)
        recovered("node crash: until training went on elsewhere", again.seconds - crashed)
        untrained.end()
    finally:
        cluster.revive(start.node)
    assert again.job == start.job
    assert again.node != start.node
    compare(untrained, finished, train=2)
    assert states(untrained) == ["NODE_FAIL", "COMPLETED"]
    assert "going on from step" in log(untrained)


def test_the_controller_and_the_accounting_may_restart(untrained, finished, cluster, recovered):
    untrained.begin()
    start = untrained.training()
    os.kill(start.pid, signal.SIGSTOP)
    stopped = untrained.now()
    cluster.restart("slurmdbd", 10)
    cluster.restart("slurmctld", 10)
    os.kill(start.pid, signal.SIGCONT)
    untrained.started("embed")
    recovered("both daemons down for 10 s each: until the next job ran", untrained.now() - stopped)
    untrained.end()
    compare(untrained, finished)
    assert states(untrained) == ["COMPLETED"]


def test_ctrl_c_cancels_and_the_same_command_goes_on(untrained, finished, recovered):
    untrained.begin()
    untrained.training()
    interrupted = untrained.now()
    untrained.driver.send_signal(signal.SIGINT)
    said = untrained.end(fails=True)
    recovered("Ctrl-C: until the driver had ended", untrained.now() - interrupted)
    assert "Terminating processes on user request" in said
    until(lambda: not set(states(untrained)) & set(RUNNING), 20, "end of the jobs")
    untrained.begin()
    untrained.end()
    compare(untrained, finished, train=2)
    assert states(untrained) == ["CANCELLED", "COMPLETED"]
    assert "going on from step" in log(untrained)


def test_after_the_drivers_kill_recover_makes_the_plain_command_go_on(untrained, finished, recovered):
    untrained.begin()
    start = untrained.training()
    assert "is a snakemake at work in this folder" in untrained.type("vlret cluster recover", fails=True)
    killed = untrained.now()
    untrained.driver.kill()
    untrained.end(fails=True)
    assert start.job in untrained.queued()
    assert "Error: Directory cannot be locked" in untrained.type(COMMAND, fails=True)
    said = untrained.type("vlret cluster recover")
    recovered("kill -9 of the driver: `vlret cluster recover`", untrained.now() - killed)
    assert f"{start.job} (RUNNING)" in said
    assert f"Now type, as before: {COMMAND}" in said
    assert untrained.queued() == []
    assert "no job of a killed run is left" in untrained.type("vlret cluster recover")
    untrained.begin()
    untrained.end()
    compare(untrained, finished, train=2, recover=3)
    assert states(untrained) == ["CANCELLED", "COMPLETED"]
    assert "going on from step" in log(untrained)
