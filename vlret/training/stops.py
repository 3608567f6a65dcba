"""Signals that stop a training: it saves its state after the current step."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vlret.training import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # the latter is what Slurm sends before a time limit
SIGNAL_FILE = "VLRET_SIGNAL_FILE"  # where the launcher of several processes writes the signal it received


class Stop:
    """The received signal, 0 if none."""

    signal: int = 0

    def agreed(self) -> int:
        """The signal that any process or the launcher received; the same on all processes after each step."""
        return distributed.largest(self.signal or _launchers_signal())


def _launchers_signal() -> int:
    path = os.environ.get(SIGNAL_FILE)
    if path is None or not Path(path).exists():
        return 0
    return int(Path(path).read_text() or 0)


@contextmanager
def signals() -> Iterator[Stop]:
    """Record signals in a `Stop` instead of terminating."""
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
