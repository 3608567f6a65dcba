"""Image features on disk: memory-mapped arrays, and the row of each image.

A store is a folder with `store.json` and one or more shards (the folder itself, or subfolders). A shard is
- `features.npy` `[images, regions, dim]` float16 or float32;
- `boxes.npy` `[images, regions, 4]` float32: x1, y1, x2, y2 in [0, 1] of the image's width and height;
- `counts.npy` `[images]` int32: the number of valid regions, which come first; the others are zeros.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from vlret.arrays import GrowingArray, Journal, sync
from vlret.console import say
from vlret.files import InputError, atomic, error_summary, read_json, remove, write_json

FEATURES, BOXES, COUNTS, DESCRIPTION = "features.npy", "boxes.npy", "counts.npy", "store.json"
JOURNAL = "journal.jsonl"
DTYPES = ("float16", "float32")
REMEDY = "delete the store and extract again"


class Shard(NamedTuple):
    """The arrays of one shard, memory-mapped except for the counts."""

    features: np.ndarray
    boxes: np.ndarray
    counts: np.ndarray


class FeatureStore:
    """A feature store opened for reading.

    Attributes
    ----------
    counts
        The number of valid regions of each image, `[images]` int32.
    description
        Backbone, SHA-256 of the weights, preprocessing and library versions.
    unreadable
        File name -> reason, for images without a row.
    """

    def __init__(self, shards: Sequence[Shard], description: Mapping):
        hidden = ("images", "unreadable", "shards")
        self.description = {key: value for key, value in description.items() if key not in hidden}
        self.unreadable: dict[str, str] = description["unreadable"]
        self.counts = np.concatenate([shard.counts for shard in shards])
        self._shards = list(shards)
        self._first = np.cumsum([0, *(len(shard.counts) for shard in shards)])
        self._rows: dict[str, int] = description["images"]

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Open the store in folder `path`; `InputError` if it is missing or inconsistent."""
        path = Path(path)
        description = read_json(path / DESCRIPTION)
        try:
            _check_description(description)
            shards = [_open_shard(path / name) for name in description["shards"]]
        except Exception as error:  # NumPy does not document what a broken array raises
            raise InputError(f"{path}: damaged feature store ({error_summary(error)}); {REMEDY}") from error
        kinds = {(shard.features.dtype, *shard.features.shape[1:]) for shard in shards}
        if sum(len(shard.counts) for shard in shards) != len(description["images"]) or len(kinds) > 1:
            raise InputError(f"{path}: {DESCRIPTION} and the arrays disagree; {REMEDY}")
        return cls(shards, description)

    def __len__(self) -> int:
        """The number of images with a row."""
        return len(self._rows)

    @property
    def regions(self) -> int:
        """The maximum number of regions of an image."""
        return self._shards[0].features.shape[1]

    @property
    def dim(self) -> int:
        """The width of a region's features."""
        return self._shards[0].features.shape[2]

    @property
    def names(self) -> list[str]:
        """The images' file names, by row."""
        return list(self._rows)

    def row(self, image: str | list[str] | None) -> int | None:
        """The row of an image, or of the first of several that has one; None without."""
        return next((self._rows[name] for name in named(image) if name in self._rows), None)

    def rows(self, images: Iterable[str | list[str] | None]) -> np.ndarray:
        """The rows of `images` `[images]` int64, -1 without one."""
        found = (self.row(image) for image in images)
        return np.array([-1 if row is None else row for row in found], dtype=np.int64)

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features `[rows, regions, dim]` as stored and boxes `[rows, regions, 4]` float32, in the order of `rows`.

        Raises `IndexError` for a row that does not exist, such as -1.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError("a row that does not exist: leave out images without one")
        if len(self._shards) == 1:
            return self._shards[0].features[rows], self._shards[0].boxes[rows]
        features, boxes = (np.empty((len(rows), *part.shape[1:]), part.dtype) for part in self._shards[0][:2])
        holders = np.searchsorted(self._first, rows, side="right") - 1
        for number in np.unique(holders):
            here, shard = holders == number, self._shards[number]
            inside = rows[here] - self._first[number]
            features[here], boxes[here] = shard.features[inside], shard.boxes[inside]
        return features, boxes


def named(image: str | list[str] | None) -> list[str]:
    """The file names in a table cell: one, several or none."""
    return [image] if isinstance(image, str) else list(image or ())


def is_whole(folder: Path) -> bool:
    """Whether the store was finished."""
    return (folder / DESCRIPTION).is_file() and not (folder / JOURNAL).exists()


def _check_description(description: Mapping) -> None:
    """Raise `ValueError` if a description has missing or invalid fields."""
    images, unreadable, shards = (description.get(field) for field in ("images", "unreadable", "shards"))
    if not isinstance(images, dict) or list(images.values()) != list(range(len(images))):
        raise ValueError("images: expected file names with rows counted from 0")
    if not isinstance(unreadable, dict) or not all(isinstance(reason, str) for reason in unreadable.values()):
        raise ValueError("unreadable: expected file names with reasons")
    if not isinstance(shards, list) or not shards or not all(isinstance(name, str) for name in shards):
        raise ValueError("shards: expected folder names")
    if outside := [name for name in shards if name != "." and (Path(name).name != name or name == "..")]:
        raise ValueError(f"shards: {outside[0]!r} is not a folder of the store")


def _open_shard(folder: Path) -> Shard:
    """The arrays in a folder; raises `ValueError`, or NumPy's errors, if they are not a shard's."""
    features, boxes, counts = (open_memmap(folder / name, mode="r") for name in (FEATURES, BOXES, COUNTS))
    if features.ndim != 3 or features.dtype not in DTYPES:
        raise ValueError(f"{FEATURES}: {features.dtype} {list(features.shape)}, expected [images, regions, dim]")
    images, regions, _ = features.shape
    if boxes.shape != (images, regions, 4) or boxes.dtype != np.float32:
        raise ValueError(f"{BOXES}: {boxes.dtype} {list(boxes.shape)}, expected float32 {[images, regions, 4]}")
    if counts.shape != (images,) or counts.dtype != np.int32:
        raise ValueError(f"{COUNTS}: {counts.dtype} {list(counts.shape)}, expected int32 {[images]}")
    if len(counts) and not 0 <= counts.min() <= counts.max() <= regions:
        raise ValueError(f"{COUNTS}: {counts.min()} to {counts.max()} regions per image, expected 0 to {regions}")
    return Shard(features, boxes, np.array(counts))


def gather(shards: Sequence[Path], unreadable: int, out: Path) -> None:
    """Concatenate stores of one backbone and different images to the store `out`.

    The arrays are hard-linked if the file system allows it, else copied.

    Parameters
    ----------
    shards
        The stores, in order.
    unreadable
        How many images in total may be missing or broken.
    out
        The folder to write.

    Raises
    ------
    InputError
        If two hold the same image or were made with different settings, or too many images are unreadable.
    """
    described = [read_json(Path(shard) / DESCRIPTION) for shard in shards]
    images: dict[str, int] = {}
    broken: dict[str, str] = {}
    common = [{key: one[key] for key in sorted(one.keys() - {"images", "unreadable"})} for one in described]
    for shard, one, made in zip(shards, described, common, strict=True):
        if made != common[0]:
            raise InputError(f"{shard}: made with other settings than {shards[0]}; delete both and extract again")
        if twice := images.keys() & one["images"].keys():
            raise InputError(f"{shard}: image {min(twice)} is also in another shard; put each image in only one")
        images.update({name: len(images) + place for place, name in enumerate(one["images"])})
        broken.update(one["unreadable"])
    if len(broken) > unreadable:
        name, reason = next(iter(broken.items()))
        raise InputError(
            f"{out}: {len(broken)} images cannot be read (such as {name}: {reason}), {unreadable} are allowed; fix "
            f"them and remove {shards[0].parent}, or raise limits.unreadable image in the config"
        )
    names = ["."] if len(shards) == 1 else [Path(shard).name for shard in shards]
    with atomic(out, kept=True) as aside:
        for shard, name in zip(shards, names, strict=True):
            (aside / name).mkdir(parents=True, exist_ok=True)
            for array in (FEATURES, BOXES, COUNTS):
                _link(Path(shard) / array, aside / name / array)
        known = {**common[0], "shards": names, "images": images, "unreadable": broken}
        write_json(aside / DESCRIPTION, known)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        say(f"{source}: cannot be linked ({error.strerror}); copying it")
        shutil.copyfile(source, target)


class FeatureWriter:
    """Writes a store of one shard batch by batch; it is valid once `finish` returns.

    After a kill or a power failure, a new writer of the folder resumes after the last complete batch. A batch is
    recorded in a journal once its arrays are synced to disk, and is discarded if they no longer hold it.

    Attributes
    ----------
    images
        Name -> row of each image.
    unreadable
        Name -> reason, for images without a row.
    """

    def __init__(self, folder: Path, regions: int, dim: int, dtype: str = "float16"):
        self.folder, self.dtype, self.regions = Path(folder), dtype, regions
        self.folder.mkdir(parents=True, exist_ok=True)
        self.images: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}
        tails = {FEATURES: ((regions, dim), dtype), BOXES: ((regions, 4), "float32"), COUNTS: ((), "int32")}
        self._arrays = {name: GrowingArray(self.folder / name, *tail) for name, tail in tails.items()}
        held = min(array.length for array in self._arrays.values())
        self._journal = Journal(self.folder / JOURNAL, held, lambda batch: len(batch["images"]))
        for batch in self._journal.entries:
            self._note(batch)
        for array in self._arrays.values():
            array.cut(len(self.images))

    def add(
        self,
        names: Sequence[str],
        features: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        counts: np.ndarray | None = None,
        unreadable: Mapping[str, str] | None = None,
    ) -> None:
        """Append a batch of images.

        Parameters
        ----------
        names, features, boxes
            The images' names, features `[names, regions, dim]` and boxes `[names, regions, 4]`; None without names.
        counts
            The number of valid regions of each, `[names]`; None if all are valid.
        unreadable
            Name -> reason, for images of the batch without a row.

        Raises
        ------
        InputError
            If a feature is not finite in the store's precision.
        ValueError
            If a name was added before.
        """
        unreadable = dict(unreadable or {})
        added = [*names, *unreadable]
        if len(set(added)) < len(added) or not self.images.keys().isdisjoint(added):
            raise ValueError("an image was added twice")
        if names:
            counts = np.full(len(names), self.regions) if counts is None else counts
            for name, rows in ((FEATURES, self._stored(names, features)), (BOXES, boxes), (COUNTS, counts)):
                self._arrays[name].append(rows)
            for array in self._arrays.values():
                sync(array.stream)
        batch = {"images": list(names), "unreadable": unreadable}
        self._journal.write(batch)
        self._note(batch)

    @property
    def batches(self) -> int:
        """The number of stored batches."""
        return len(self._journal.entries)

    def _stored(self, names: Sequence[str], features: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            stored = features.astype(self.dtype)
        finite = np.isfinite(stored).all(axis=(1, 2))
        if not finite.all():
            name = names[int(np.argmin(finite))]
            raise InputError(f"features.dtype: the features of {name} are not finite in {self.dtype}; set float32")
        return stored

    def _note(self, batch: Mapping) -> None:
        self.images.update({name: len(self.images) + place for place, name in enumerate(batch["images"])})
        self.unreadable.update(batch["unreadable"])

    def finish(self, description: Mapping) -> None:
        """Write `store.json`: the description and the rows of images."""
        for array in self._arrays.values():
            array.close()
        self._journal.close()
        known = {**description, "dtype": self.dtype, "shards": ["."]}
        write_json(self.folder / DESCRIPTION, {**known, "images": self.images, "unreadable": self.unreadable})
        remove(self.folder / JOURNAL)
