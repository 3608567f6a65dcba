"""Two runs of one training in one folder, as after a node hung while its job lived on."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from toy import Toy

from vlret.training.train import train

# `vlret` with a quick lock; argv[1] is a file that its steps from the 20th on wait for.
SLOW = """
import sys, time
from pathlib import Path
from vlret import locks
locks.BEAT, locks.PATIENCE = 0.2, 10
from vlret.training.learner import Learner
from vlret.cli import main
gate, step = Path(sys.argv[1]), Learner.step
def gated(self, number, *rest):
    while number >= 20 and not gate.exists():
        time.sleep(0.01)
    return step(self, number, *rest)
Learner.step = gated
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def trained(toy):
    out = toy.folder / "checkpoints" / "undisturbed"
    train(settings=toy.settings("full", steps=30), **toy.training, out=out)
    return out


@contextmanager
def training(toy, out, gate):
    """A training that waits for `gate` and is killed at the end of the block."""
    command = [sys.executable, "-c", SLOW, gate, *toy.command("full", out, steps=30)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def until(there):
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def same(one, other):
    return all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in ("model.safetensors", "config.json")
    )


def hidden(out):
    """The hidden files beside a checkpoint."""
    return [path.name for path in out.parent.iterdir() if path.name.startswith(".") or path.suffix == ".training"]


@pytest.mark.slow
def test_a_stalled_run_exits_once_another_took_over(toy, trained, tmp_path):
    out, gate = tmp_path / "checkpoint", tmp_path / "gate"
    with training(toy, out, gate) as first:
        until(lambda: (tmp_path / "checkpoint.training" / "step-00000014.pt").exists())
        first.send_signal(signal.SIGSTOP)
        with training(toy, out, gate) as second:
            lines = iter(second.stderr.readline, "")
            assert any(f"process {first.pid} of" in line and "stalled for 2 s; taking over" in line for line in lines)
            assert any("resuming from step 14" in line for line in lines)
            states = sorted(path.name for path in (tmp_path / "checkpoint.training").glob("step-*"))
            gate.touch()
            first.send_signal(signal.SIGCONT)
            assert states == ["step-00000007.pt", "step-00000014.pt"]
            assert second.wait() == 0
            log = first.stderr.read()
            assert first.wait() == 0, "else Snakemake would remove the second's output"
            assert f"process {second.pid} of" in log
            assert "took over while this process was stalled" in log
            assert "finished by the other process" in log
            assert "Traceback" not in log
    assert same(out, trained)
    assert hidden(out) == []


@pytest.mark.slow
def test_a_second_run_waits_and_uses_the_firsts_result(toy, trained, tmp_path):
    out, gate = tmp_path / "checkpoint", tmp_path / "gate"
    with training(toy, out, gate) as first:
        until(lambda: (tmp_path / "checkpoint.training" / "step-00000007.pt").exists())
        with training(toy, out, gate) as second:
            waiting = second.stderr.readline()
            while "holds the lock; waiting for it" not in waiting:
                waiting = second.stderr.readline()
                assert waiting, "it ended"
            assert f"process {first.pid} of" in waiting
            gate.touch()
            assert first.wait() == 0
            made = out.stat().st_ino
            log = second.stderr.read()
            assert "finished by another process with the same settings; using it" in log
            assert second.wait() == 0
    assert out.stat().st_ino == made
    assert same(out, trained)
    assert hidden(out) == []
