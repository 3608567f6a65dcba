"""Terminal output of a running stage: progress bars with speed and time left, and log lines."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

# tqdm's default format inverts rates below 1/s to seconds per unit.
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


def progress(
    items: Iterable[T], total: int | None, unit: str, label: str, size: Callable[[T], int] | None = None
) -> Iterator[T]:
    """Yield `items` with a progress bar on standard error: done, speed in `unit`/s, time left.

    `size` gives how many units an item counts for, one by default. If standard error is a file, the bar is redrawn
    every 10 s, which keeps logs short.
    """
    with bar(total, unit, label) as shown:
        for item in items:
            yield item
            shown.update(1 if size is None else size(item))


def bar(total: int | None, unit: str, label: str) -> "tqdm":
    """The bar of `progress`, to move by hand: `with bar(...) as shown: shown.update(count)`."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    how = {"desc": label, "total": total, "unit": f" {unit.strip()}", "bar_format": BAR}
    return tqdm(mininterval=interval, file=sys.stderr, **how)


def meter(size: int | None, done: int, label: str | None) -> "tqdm":
    """A byte progress bar on standard error: `with meter(...) as bar: bar.update(count)`; silent without a label."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    how = {"desc": label, "total": size, "initial": done, "unit": "B", "unit_scale": True, "disable": label is None}
    return tqdm(mininterval=interval, file=sys.stderr, **how)


def say(line: str) -> None:
    """Print one line to standard error, unbuffered, without breaking progress bars."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def clock(seconds: float) -> str:
    """Format seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Status:
    """A status line on standard error: overwritten in place on a terminal, a new line every 10 s in a file."""

    def __init__(self):
        self.shown, self.rewrites = 0.0, sys.stderr.isatty()

    def show(self, line: str) -> None:
        """Show the line, unless the last one was shown too recently."""
        if time.monotonic() - self.shown < (0.1 if self.rewrites else 10.0):
            return
        sys.stderr.write(f"\r\033[K{line}" if self.rewrites else f"{line}\n")
        sys.stderr.flush()
        self.shown = time.monotonic()

    def clear(self) -> None:
        """Clear the line of a terminal."""
        if self.rewrites:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
