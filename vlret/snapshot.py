"""Snapshots of a long job's state, by which it goes on after a kill; short jobs leave none."""

import time
from collections.abc import Callable
from pathlib import Path

from vlret.files import atomic, remove, unfinished


class Snapshot:
    """The last saved state of a job, a file or folder that only this class names.

    Parameters
    ----------
    folder
        Holds the state and what it belongs to; made with the first state.
    known
        Returns what the state depends on, settings and digests of inputs as `vlret.files.unfinished` takes them; called
        only if there is a state, or one is saved.
    seconds
        The least time between states, and before the first.
    """

    def __init__(self, folder: Path, known: Callable[[], tuple[dict, dict[str, str]]], seconds: float):
        self.folder, self.known, self.seconds = folder, known, seconds
        self.state, self.saved, self.ours = folder / "state", time.monotonic(), False

    def last(self) -> Path | None:
        """The state to go on from, None without one; one of other settings or inputs is removed."""
        if not self.state.exists():
            return None
        self._prepare()
        return self.state if self.state.exists() else None

    def save(self, write: Callable[[Path], object]) -> None:
        """Save the state, if it is time: `write` gets a path for a file or a folder."""
        if time.monotonic() - self.saved < self.seconds:
            return
        self._prepare()
        with atomic(self.state) as aside:
            write(aside)
        self.saved = time.monotonic()

    def _prepare(self) -> None:
        """Make the folder, without a state of another job."""
        if not self.ours:
            unfinished(self.folder, *self.known())
            self.ours = True

    def remove(self) -> None:
        """Remove the state of a job that is done."""
        remove(self.folder)
