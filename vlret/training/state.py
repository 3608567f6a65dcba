"""The state to resume a training from: one file per saved step, written atomically, the last two kept."""

from collections.abc import Callable
from pathlib import Path

import torch

from vlret.console import say
from vlret.files import atomic, error_summary, remove

KEPT = 2


def save(folder: Path, step: int, state: dict, ready: Callable[[], None] | None = None) -> None:
    """Write the state after `step` steps and remove all but the last two; `state` holds tensors and plain values.

    `ready` is called before the file is renamed into place, as by `vlret.files.atomic`.
    """
    with atomic(folder / f"step-{step:08d}.pt", ready) as aside:
        torch.save({"step": step, **state}, aside)
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        remove(old)


def last(folder: Path) -> dict | None:
    """The newest readable state, or None; unreadable ones are reported and skipped."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch does not document what a broken file raises
            say(f"{path}: damaged state ({error_summary(error)}); trying the previous one")
    return None
