"""Signals that ask a training to stop: it saves its state at the end of the step that is running."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vlret.training import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # the latter is what Slurm is asked to send before a time limit
ASKED = "VLRET_SIGNAL_FILE"  # where the launcher of several processes writes the signal that it got


class Stop:
    """The signal that came, 0 until one does."""

    signal: int = 0

    def agreed(self) -> int:
        """The same after the same step for all processes, whichever of them, or their launcher, got it."""
        return distributed.largest(self.signal or _asked())


def _asked() -> int:
    path = os.environ.get(ASKED)
    if path is None or not Path(path).exists():
        return 0
    return int(Path(path).read_text() or 0)


@contextmanager
def signals() -> Iterator[Stop]:
    """Note signals in a `Stop` instead of dying of them."""
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
