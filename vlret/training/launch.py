"""The processes of one training: `srun` on its nodes, `torchrun` on each of them, and signals that reach them all.

A signal is written to a file that every process looks at after each step: `torchrun` itself would leave its processes
30 s for the step that they are in.
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
from vlret.training.stops import ASKED, SIGNALS

RENDEZVOUS = "VLRET_RENDEZVOUS"  # host:port of the first node, for the command that srun starts on each
LAUNCHED = "TORCHELASTIC_RUN_ID"  # torchrun sets it


def launched(gpus: int, nodes: int, threads: int) -> bool:
    """Whether this command was run by `gpus` processes on each of `nodes` nodes, `threads` cores each; not if by this.

    Raises
    ------
    InputError
        If there are several nodes and this is no Slurm job.
    SystemExit
        With the exit code of the first process that failed, 128 + its number after a signal.
    """
    if LAUNCHED in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torchrun ignores it, and that is inherited
        return False
    if gpus * nodes == 1:
        return False
    if nodes == 1 or RENDEZVOUS in os.environ:
        code = _relayed(torchrun(gpus, nodes), {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGINT"})
    else:
        where = {RENDEZVOUS: f"{platform.node()}:{_free_port()}"}
        code = _relayed(srun(nodes, gpus * threads), where, lambda process: process.send_signal(signal.SIGUSR1))
    if code:
        raise SystemExit(code)
    return True


def torchrun(gpus: int, nodes: int) -> list[str]:
    """The command that runs this one in `gpus` processes of this node."""
    command = [sys.executable, "-m", "vlret.training.torchrun", f"--nproc-per-node={gpus}"]
    if nodes == 1:
        return [*command, "--standalone", *_again()]
    host, _, port = os.environ[RENDEZVOUS].partition(":")
    place = [f"--nnodes={nodes}", f"--node-rank={os.environ['SLURM_NODEID']}"]
    return [*command, *place, f"--master-addr={host}", f"--master-port={port}", *_again()]


def srun(nodes: int, threads: int) -> list[str]:
    """The command that runs this one on each node of the Slurm job, with `threads` cores there."""
    if "SLURM_JOB_ID" not in os.environ:
        raise InputError(f"training.nodes: {nodes} nodes are for a Slurm job; elsewhere set it to 1")
    place = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={threads}"]
    return ["srun", *place, "--kill-on-bad-exit=1", sys.executable, *_again()]


def _again() -> list[str]:
    return ["-m", "vlret", *sys.argv[1:]]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def _relayed(
    command: Sequence[str],
    environment: Mapping[str, str],
    forward: Callable[[subprocess.Popen], None] = lambda process: None,
) -> int:
    """Run a command that itself is spared signals, tell its processes of those that came, and return its exit code."""
    with TemporaryDirectory(prefix="vlret-") as folder:
        asked, process, came = Path(folder) / "signal", None, []

        def note(number: int, frame: FrameType | None) -> None:
            came.append(number)
            asked.write_text(f"{number}")
            if process:
                forward(process)

        before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
        process = subprocess.Popen(
            command, env={**os.environ, **environment, ASKED: str(asked)}, start_new_session=True
        )
        for number in SIGNALS:
            signal.signal(number, note)
        try:
            code = _ended(process)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return code and (128 + came[-1] if came else code)


def _ended(process: subprocess.Popen) -> int:
    """The exit code; an interrupt from the keyboard, which the process did not get, is passed on."""
    try:
        code = process.wait()
    except KeyboardInterrupt:
        say("interrupted; ending all processes")
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    return 128 - code if code < 0 else code
