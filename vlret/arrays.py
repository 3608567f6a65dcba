"""Arrays on disk that grow batch by batch and survive a kill: `.npy` files, and a journal of what they hold."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vlret.files import atomic


class GrowingArray:
    """A `.npy` file whose first axis grows; NumPy pads its header, so it can be rewritten in place.

    `length` is the number of rows in the file, regardless of its header.
    """

    def __init__(self, path: Path, tail: tuple[int, ...], dtype: str):
        self.tail, self.dtype, self.length = tail, np.dtype(dtype), 0
        self.stream = open(path, "r+b" if path.is_file() else "w+b")  # noqa: SIM115
        size = self.stream.seek(0, os.SEEK_END)
        self._write_header()
        self.start, self.row = self.stream.tell(), self.dtype.itemsize * int(np.prod(tail))
        self.length = max(0, size - self.start) // self.row

    def cut(self, length: int) -> None:
        """Keep the first `length` rows."""
        self.length = length
        self.stream.truncate(self.start + length * self.row)
        self.stream.seek(0, os.SEEK_END)

    def append(self, rows: np.ndarray) -> None:
        """Append `rows`, `[n, *tail]`; `ValueError` for another shape."""
        if rows.shape[1:] != self.tail:
            raise ValueError(f"rows of shape {rows.shape[1:]}, expected {self.tail}")
        self.stream.write(np.ascontiguousarray(rows, self.dtype).tobytes())
        self.length += len(rows)

    def close(self) -> None:
        """Write the header and sync the file."""
        self._write_header()
        sync(self.stream)
        self.stream.close()

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length, *self.tail)}
        self.stream.seek(0)
        np.lib.format.write_array_header_1_0(self.stream, header)


class Journal:
    """What growing arrays hold, an entry a batch; an entry is written once the arrays are synced to disk.

    Parameters
    ----------
    path
        A file of JSON lines. It is opened behind the last entry whose rows the arrays hold completely.
    held
        The number of rows of the shortest array.
    rows
        The number of rows of an entry.

    Attributes
    ----------
    entries
        The entries so far.
    """

    def __init__(self, path: Path, held: int, rows: Callable[[dict], int]):
        self.entries: list[dict] = []
        for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                break  # torn, or zeros
            held -= rows(entry)
            if held < 0 or not line.endswith(b"\n"):
                break
            self.entries.append(entry)
        with atomic(path) as aside:
            aside.write_bytes(b"".join(map(_line, self.entries)))
        self.stream = open(path, "ab")  # noqa: SIM115

    def write(self, entry: dict) -> None:
        """Append an entry and sync it to disk."""
        self.stream.write(_line(entry))
        sync(self.stream)
        self.entries.append(entry)

    def close(self) -> None:
        """Close the file."""
        self.stream.close()


def sync(stream: BinaryIO) -> None:
    """Flush a file to disk."""
    stream.flush()
    os.fsync(stream.fileno())


def _line(entry: dict) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
