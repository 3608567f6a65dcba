"""The state to resume a training from: one file per saved step, written atomically, the last two kept."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from vlret.console import say
from vlret.files import InputError, atomic, error_summary, remove
from vlret.training import distributed

KEPT = 2


class Saving(AbstractContextManager):
    """Saves states beside the training: one at a time, in a thread.

    An error of the thread, such as a full disk, is raised by the next call of any method, and at the end of the block.

    Parameters
    ----------
    folder
        Where states are written.
    steps, minutes
        A state is due after so many steps, and after so much time since the last one.
    ready
        Called before a file is renamed into place, as by `vlret.files.atomic`.
    """

    def __init__(self, folder: Path, steps: int, minutes: float, ready: Callable[[], None] | None = None):
        self.folder, self.steps, self.seconds, self.ready = folder, steps, 60 * minutes, ready
        self.worker, self.writing = ThreadPoolExecutor(1), None
        self.last = time.monotonic()

    def __exit__(self, kind: type | None, *rest: object) -> None:
        self.worker.shutdown()
        if kind is None:
            self.finish()

    def due(self, step: int) -> bool:
        """Whether to save the state after this step."""
        if self.writing and self.writing.done():
            self.finish()
        return step % self.steps == 0 or time.monotonic() - self.last >= self.seconds

    def start(self, step: int, state: dict) -> None:
        """Begin to write a state, once the previous one is written; nothing may change it any more."""
        self.finish()
        self.last = time.monotonic()
        self.writing: Future | None = self.worker.submit(save, self.folder, step, state, self.ready)

    def finish(self) -> None:
        """Wait until all states are written."""
        if self.writing:
            writing, self.writing = self.writing, None
            writing.result()


def copied(value: object) -> object:
    """A copy, on the CPU, of the tensors in mappings and lists, which a training changes in place."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: copied(part) for name, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list) else value


def save(folder: Path, step: int, state: dict, ready: Callable[[], None] | None = None) -> None:
    """Write the state after `step` steps and remove all but the last two; `state` holds tensors and plain values.

    `ready` is called before the file is renamed into place, as by `vlret.files.atomic`.
    """
    with atomic(_path(folder, step), ready) as aside:
        torch.save({"step": step, **state}, aside)
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        remove(old)


def last(folder: Path) -> dict | None:
    """The first process's newest readable state, on all processes, or None; unreadable ones are reported and skipped.

    Raises
    ------
    InputError
        If another process cannot read that state, since it sees other files or would go on from elsewhere.
    """
    found = _newest(folder) if distributed.rank() == 0 else None
    step = distributed.told(found["step"] if found else 0)
    if not step:
        return None
    path = _path(folder, step)
    if distributed.rank():
        found = _read(path)
    if distributed.largest(int(found is None)):
        raise InputError(f"{path}: the first process reads this state, another one cannot; let all see the same files")
    return found


def _newest(folder: Path) -> dict | None:
    paths = sorted(folder.glob("step-*.pt"), reverse=True)
    return next((found for found in map(_read, paths) if found is not None), None)


def _read(path: Path) -> dict | None:
    """A state on the CPU; None, after a report, if it is missing or damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch does not document what a broken file raises
        say(f"{path}: damaged state ({error_summary(error)}); trying the previous one")
    return None


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"
