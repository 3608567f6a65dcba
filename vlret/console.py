"""What a running stage shows: a progress bar with speed and time left, and lines that stay."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], total: int | None, unit: str, label: str) -> Iterator[T]:
    """Yield `items` behind a bar on standard error: done, speed in `unit`/s, time left.

    Where standard error is a file the bar is redrawn every 10 s, so that a log stays short.
    """
    interval = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm(items, desc=label, total=total, unit=unit, mininterval=interval, file=sys.stderr)


def say(line: str) -> None:
    """Print one line to standard error at once, bars untouched."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
