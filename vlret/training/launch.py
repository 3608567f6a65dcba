"""Launch the processes of a training: `srun` for nodes, `torchrun` on each, and signals for all.

Signals are written to a file that every process checks after each step: `torchrun` itself would give its processes only
30 s to finish their step.
"""

import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from vlret.console import say
from vlret.files import InputError
from vlret.training.stops import SIGNAL_FILE, SIGNALS

RENDEZVOUS = "VLRET_RENDEZVOUS"  # host:port of the first node, for the command on each node
LAUNCHED = "TORCHELASTIC_RUN_ID"  # set by torchrun


def launch(gpus: int, nodes: int, threads: int) -> bool:
    """Run this command in `gpus` processes per node, `threads` cores each; False in one of them, or if one suffices.

    Raises
    ------
    InputError
        If there are several nodes outside a Slurm job.
    SystemExit
        With the exit code of the first failed process, 128 + its number after a signal.
    """
    if LAUNCHED in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # inherited from torchrun, which ignores it
        return False
    if gpus * nodes == 1:
        return False
    if nodes == 1 or RENDEZVOUS in os.environ:
        code = _relay_signals(torchrun(gpus, nodes), {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGINT"})
    else:
        where = {RENDEZVOUS: f"{platform.node()}:{_free_port()}"}
        code = _relay_signals(srun(nodes, gpus * threads), where, lambda process: process.send_signal(signal.SIGUSR1))
    if code:
        raise SystemExit(code)
    return True


def torchrun(gpus: int, nodes: int) -> list[str]:
    """A command that runs this one in `gpus` processes of this node."""
    command = [sys.executable, "-m", "vlret.training.torchrun", f"--nproc-per-node={gpus}"]
    if nodes == 1:
        return [*command, "--standalone", *_this_command()]
    host, _, port = os.environ[RENDEZVOUS].partition(":")
    place = [f"--nnodes={nodes}", f"--node-rank={os.environ['SLURM_NODEID']}"]
    return [*command, *place, f"--master-addr={host}", f"--master-port={port}", *_this_command()]


def srun(nodes: int, threads: int) -> list[str]:
    """A command that runs this one on each node of the Slurm job, with `threads` cores."""
    if "SLURM_JOB_ID" not in os.environ:
        raise InputError(f"training.nodes: {nodes} nodes need a Slurm job; elsewhere set it to 1")
    place = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={threads}"]
    return ["srun", *place, "--kill-on-bad-exit=1", sys.executable, *_this_command()]


def _this_command() -> list[str]:
    return ["-m", "vlret", *sys.argv[1:]]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def _relay_signals(
    command: Sequence[str],
    environment: Mapping[str, str],
    forward: Callable[[subprocess.Popen], None] = lambda process: None,
) -> int:
    """Run a command, relay signals to its processes but not to itself, and return its exit code."""
    with TemporaryDirectory(prefix="vlret-") as folder:
        file, process, received = Path(folder) / "signal", None, []

        def note(number: int, frame: FrameType | None) -> None:
            received.append(number)
            file.write_text(f"{number}")
            if process:
                forward(process)

        before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
        process = subprocess.Popen(
            command, env={**os.environ, **environment, SIGNAL_FILE: str(file)}, start_new_session=True
        )
        for number in SIGNALS:
            signal.signal(number, note)
        try:
            code = _wait(process)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return code and (128 + received[-1] if received else code)


def _wait(process: subprocess.Popen) -> int:
    """The exit code; forwards keyboard interrupts, which the process does not receive itself."""
    try:
        code = process.wait()
    except KeyboardInterrupt:
        say("interrupted; ending all processes")
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    return 128 - code if code < 0 else code
