"""The vectors of passages on disk: a folder a shard, written window by window, read as one array.

A shard holds a consecutive part of the units:
- `vectors.npy` `[units, dim]` float16, float32 or int8; rows of units without a vector are NaN;
- `scales.npy` `[units]` float32, for int8 only: a vector is its row times its scale, NaN without a vector;
- `sample.npy` `[sampled, dim]` float32: each `every`-th unit as it was encoded, to measure what storing costs;
- `embeddings.json`: `unit` (passage or article), the `first` one and their number `units`, `every`, the `precision` of
  products, and how many texts were `cut`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vlret.arrays import GrowingArray, Journal, sync
from vlret.files import InputError, read_json, remove, write_json

VECTORS, SCALES, SAMPLE, DESCRIPTION, JOURNAL = (
    "vectors.npy",
    "scales.npy",
    "sample.npy",
    "embeddings.json",
    "journal.jsonl",
)
DTYPES = (np.float16, np.float32, np.int8)
LARGEST = 127  # of an int8
REMEDY = "embed again"


class VectorWriter:
    """Writes a shard window by window; after a kill, a new writer of the folder goes on behind the last whole one.

    Attributes
    ----------
    units, cut
        How many units are stored, and how many of their texts were truncated.
    """

    def __init__(self, folder: Path, dtype: str, every: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dtype, self.every = folder, dtype, every
        self.units = self.cut = 0
        self.arrays: dict[str, GrowingArray] = {}
        self.journal: Journal | None = None
        if (dim := _dim_in(folder / JOURNAL)) is not None:
            self._open(dim)

    def _open(self, dim: int) -> None:
        """Open the arrays behind the last window that all of them hold."""
        shapes = {VECTORS: ((dim,), self.dtype), SAMPLE: ((dim,), "float32")}
        shapes |= {SCALES: ((), "float32")} if self.dtype == "int8" else {}
        self.arrays = {name: GrowingArray(self.folder / name, *shape) for name, shape in shapes.items()}
        held = min(array.length for name, array in self.arrays.items() if name != SAMPLE)
        held = min(held, self.arrays[SAMPLE].length * self.every)
        self.journal = Journal(self.folder / JOURNAL, held, lambda window: window["units"])
        self.units = sum(window["units"] for window in self.journal.entries)
        self.cut = sum(window["cut"] for window in self.journal.entries)
        for name, array in self.arrays.items():
            array.cut(-(-self.units // self.every) if name == SAMPLE else self.units)

    def add(self, vectors: np.ndarray, cut: int) -> None:
        """Append the vectors of a window, `[units, dim]` float32, of whose texts `cut` were truncated.

        Raises `InputError` for a vector that is not finite as stored.
        """
        if self.journal is None:
            self._open(vectors.shape[1])
        stored, scales = _stored(vectors, np.dtype(self.dtype), self.units)
        parts = {VECTORS: stored, SCALES: scales, SAMPLE: vectors[-self.units % self.every :: self.every]}
        for name, array in self.arrays.items():
            array.append(parts[name])
            sync(array.stream)
        self.journal.write({"units": len(vectors), "cut": cut, "dim": vectors.shape[1]})
        self.units += len(vectors)
        self.cut += cut

    def finish(self, description: Mapping[str, object]) -> None:
        """Write `embeddings.json`, after which the shard is whole."""
        for array in self.arrays.values():
            array.close()
        if self.journal:
            self.journal.close()
        counts = {"units": self.units, "every": self.every, "cut": self.cut}
        write_json(self.folder / DESCRIPTION, {**description, **counts})
        remove(self.folder / JOURNAL)


def is_whole(folder: Path) -> bool:
    """Whether the shard was finished."""
    return (folder / DESCRIPTION).is_file() and not (folder / JOURNAL).exists()


def _dim_in(journal: Path) -> int | None:
    """The width of the vectors that a journal tells of; None without a whole entry."""
    line = journal.read_bytes().partition(b"\n") if journal.is_file() else (b"", b"", b"")
    try:
        return json.loads(line[0])["dim"] if line[1] else None
    except ValueError:
        return None


def _stored(vectors: np.ndarray, dtype: np.dtype, first: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Vectors as they are stored, and the scales of int8."""
    scales = None
    if dtype == np.int8:
        scales = np.abs(vectors).max(axis=1) / LARGEST
        with np.errstate(invalid="ignore", divide="ignore"):
            stored = np.rint(np.nan_to_num(vectors / scales[:, None])).astype(np.int8)
        finite = np.isfinite(scales)
    else:
        with np.errstate(over="ignore"):
            stored = vectors.astype(dtype)
        finite = np.isfinite(stored).all(axis=1)
    broken = np.flatnonzero(~finite & ~np.isnan(vectors).all(axis=1))
    if len(broken):
        raise InputError(
            f"embedding.dtype: the vector of unit {first + broken[0]} is not finite in {dtype}; set float32, or "
            "embedding.precision: fp32"
        )
    return stored, scales


class Vectors:
    """Vectors of all units `[units, dim]`, memory-mapped, in one or more parts.

    Attributes
    ----------
    path
        For messages.
    dtype
        As they are stored.
    """

    def __init__(self, parts: Sequence[np.ndarray], path: Path, scales: Sequence[np.ndarray] = ()):
        self.parts, self.path, self.scales = list(parts), path, list(scales)
        self.first = np.cumsum([0, *map(len, self.parts)])
        self.dtype, self.dim = self.parts[0].dtype, self.parts[0].shape[1]

    @classmethod
    def read(cls, path: Path) -> "Vectors":
        """The vectors in a `.npy` file; `InputError` if it holds something else."""
        return cls([read_array(path)], path)

    @classmethod
    def open(cls, shards: Sequence[Path]) -> "Vectors":
        """The vectors of the shards of one experiment, in order; `InputError` if they do not fit one another.

        Shards without a unit, of which there are some if there are fewer windows than shards, are left out.
        """
        described = {shard: read_json(shard / DESCRIPTION) for shard in shards}
        filled = [shard for shard, known in described.items() if known.get("units") != 0]
        if not filled:
            raise InputError(f"{shards[0]}: no shard holds a vector; {REMEDY}")
        parts = [read_array(shard / VECTORS) for shard in filled]
        scales = [np.load(shard / SCALES) for shard in filled] if parts[0].dtype == np.int8 else []
        first = 0
        for shard, part in zip(filled, parts, strict=True):
            alike = (part.dtype, part.shape[1]) == (parts[0].dtype, parts[0].shape[1])
            if not alike or described[shard].get("first", 0) != first:
                raise InputError(f"{shard}: does not follow on the shards before it; remove {shard} and {REMEDY}")
            first += len(part)
        return cls(parts, filled[0], scales)

    def __len__(self) -> int:
        return int(self.first[-1])

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Some vectors, `[rows, dim]` float32."""
        rows = np.asarray(rows)
        found = np.empty((len(rows), self.dim), np.float32)
        holders = np.searchsorted(self.first, rows, side="right") - 1
        for number in np.unique(holders):
            here = holders == number
            inside = rows[here] - self.first[number]
            found[here] = self._decoded(number, self.parts[number][inside], inside)
        return found

    def between(self, start: int, stop: int) -> np.ndarray:
        """The vectors from row `start` to row `stop` (exclusive) or the last one, `[rows, dim]` float32."""
        found = []
        for number, part in enumerate(self.parts):
            low, high = (int(np.clip(row - self.first[number], 0, len(part))) for row in (start, stop))
            if low < high:
                found.append(self._decoded(number, _read(part, low, high), slice(low, high)))
        return found[0] if len(found) == 1 else np.concatenate([np.empty((0, self.dim), np.float32), *found])

    def _decoded(self, number: int, rows: np.ndarray, places: np.ndarray | slice) -> np.ndarray:
        """Rows of a part, of its `places`, as float32 vectors; torch converts float16 faster than NumPy."""
        decoded = torch.from_numpy(rows).float().numpy()
        return decoded * self.scales[number][places][:, None] if self.scales else decoded


def _read(part: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Rows of a part, from the file if it is mapped, whose pages would stay in memory for long."""
    if not isinstance(part, np.memmap) or not part.flags.c_contiguous:
        return part[start:stop]
    offset, dim = part.offset + start * part.shape[1] * part.itemsize, part.shape[1]
    return np.fromfile(part.filename, part.dtype, (stop - start) * dim, offset=offset).reshape(-1, dim)


def read_array(path: Path) -> np.ndarray:
    """Memory-map a `.npy` file of `[units, dim]` numbers; `InputError` if it is something else."""
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an array ({error}); {REMEDY}") from error
    if vectors.ndim != 2 or vectors.dtype not in DTYPES:
        raise InputError(f"{path}: {vectors.dtype} {vectors.shape}, expected floats [units, dim]; {REMEDY}")
    return vectors


def sampled(shards: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """The sampled units of shards, `[sampled]`, and their vectors as they were encoded, `[sampled, dim]` float32."""
    rows, vectors = [], []
    for shard in shards:
        known = read_json(shard / DESCRIPTION)
        if known["units"]:
            vectors.append(np.load(shard / SAMPLE))
            rows.append(known["first"] + known["every"] * np.arange(len(vectors[-1])))
    return np.concatenate(rows), np.concatenate(vectors)
