"""Signals that stop a training: it saves its state after the current step, several processes after the next."""

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
    """The received signal, 0 if none, and the question for those of all processes that is under way."""

    signal: int = 0
    asked: distributed.Largest | None = None

    def agreed(self) -> int:
        """The signal that any process or the launcher received, the same on all processes.

        Several processes learn it one step late: each call asks for the signals so far and returns what the previous
        call asked for, so that no step waits for its own end.
        """
        own = self.signal or _launchers_signal()
        if distributed.world() == 1:
            return own
        before, self.asked = self.asked, distributed.Largest(own)
        return before.read() if before else 0


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
