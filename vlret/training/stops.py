"""Signals that ask a training to stop: it saves its state at the end of the step that is running."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vlret.training import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # the latter is what Slurm is asked to send before a time limit


class Stop:
    """The signal that came, 0 until one does."""

    signal: int = 0

    def agreed(self) -> int:
        """The same after the same step for all processes, whichever of them got it."""
        return distributed.largest(self.signal)


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
