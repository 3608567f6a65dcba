"""What a stopped training goes on from: its state, a file a step, written aside and renamed, the last two kept."""

from collections.abc import Callable
from pathlib import Path

import torch

from vlret.console import say
from vlret.files import remove, told, whole

KEPT = 2


def save(folder: Path, step: int, state: dict, ready: Callable[[], None] | None = None) -> None:
    """Write the state after `step` steps and remove all but the last two; `state` holds tensors and plain values.

    `ready` is called before the file gets its name, as by `vlret.files.whole`.
    """
    with whole(folder / f"step-{step:08d}.pt", ready) as aside:
        torch.save({"step": step, **state}, aside)
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT]:
        remove(old)


def last(folder: Path) -> dict | None:
    """The newest state that can be read, or None; one that cannot is said and passed over."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # of what a broken file makes torch raise there is no whole list
            say(f"{path}: not a whole state ({told(error)}); going back to the one before")
    return None
