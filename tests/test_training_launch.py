"""`vlret training train --gpus n --nodes m`: real processes over gloo, against one process and each other."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from toy import Toy

from vlret.files import InputError
from vlret.training.launch import RENDEZVOUS, srun
from vlret.training.train import train

pytestmark = pytest.mark.slow

# The chunk divides a process's share, so that dropout does not depend on the number of processes.
HOW = {"steps": 20, "chunk": 4}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


def started(toy, out, *options, **environment):
    command = [sys.executable, "-m", "vlret", *toy.command("full", out, save_steps=1, **HOW), *options]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def ended(process, code=0):
    log = process.communicate()[1]
    assert process.returncode == code, log
    return log


def bytes_of(out):
    return (out / "model.safetensors").read_bytes()


def mean_loss(log):
    return float(re.search(r"20 steps, mean loss ([\d.]+)", log).group(1))


@pytest.fixture(scope="module")
def two(toy):
    """A training by two processes of one machine, and its output."""
    out = toy.folder / "two"
    return out, ended(started(toy, out, "--gpus=2"))


def test_two_processes_learn_the_same_as_one(toy, two, capsys):
    out, log = two
    alone = toy.folder / "alone"
    train(settings=toy.settings("full", **HOW), **toy.training, out=alone)
    assert mean_loss(log) == pytest.approx(mean_loss(capsys.readouterr().err), abs=2e-4)
    # Sums of two terms round alike in either order; with more processes they need not.
    assert bytes_of(out) == bytes_of(alone)


def test_a_signal_to_one_of_two_nodes_stops_both_and_one_node_resumes_to_the_same_bytes(toy, two):
    out = toy.folder / "nodes"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        started(toy, out, "--nodes=2", **{RENDEZVOUS: f"127.0.0.1:{port}"}, SLURM_NODEID=f"{node}") for node in range(2)
    ]
    while not list((toy.folder / "nodes.training").glob("step-*.pt")):
        assert nodes[0].poll() is None, "it ended before it was stopped"
        time.sleep(0.005)
    nodes[1].send_signal(signal.SIGUSR1)
    log = "".join(ended(node, 128 + signal.SIGUSR1) for node in nodes)
    assert log.count("stopped by SIGUSR1 after step") == 1
    assert "Traceback" not in log
    assert not out.exists()
    assert ended(started(toy, out, "--gpus=2")).count("resuming from step") == 1
    assert bytes_of(out) == bytes_of(two[0])


def test_several_nodes_need_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(InputError, match=r"training.nodes: 2 nodes need a Slurm job"):
        srun(2, 1)
