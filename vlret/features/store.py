"""Features of images on disk: arrays that are mapped into memory, and which image is in which row.

A store is a folder: `features.npy` `[images, regions, dim]` float16, `boxes.npy` `[images, regions, 4]` float32
(x1, y1, x2, y2 in [0, 1] of the image's width and height) and `store.json`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vlret.files import InputError, read_json, write_json

FEATURES, BOXES, DESCRIPTION = "features.npy", "boxes.npy", "store.json"


class FeatureStore:
    """A feature store opened for reading.

    Attributes
    ----------
    features
        `[images, regions, dim]`, memory-mapped.
    boxes
        `[images, regions, 4]`, memory-mapped.
    description
        Backbone, weights' SHA-256, preprocessing and library versions.
    unreadable
        File name of each image that has no row, and the reason.
    """

    def __init__(self, features: np.ndarray, boxes: np.ndarray, description: dict):
        self.features, self.boxes = features, boxes
        self.description = {key: value for key, value in description.items() if key not in ("images", "unreadable")}
        self.unreadable: dict[str, str] = description["unreadable"]
        self._rows: dict[str, int] = description["images"]

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Open the store in folder `path`; `InputError` where it is missing or its parts do not fit together."""
        path = Path(path)
        description = read_json(path / DESCRIPTION)
        try:
            features = np.load(path / FEATURES, mmap_mode="r")
            boxes = np.load(path / BOXES, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a whole feature store ({error}); delete it and extract again") from error
        if not len(description["images"]) == len(features) == len(boxes):
            raise InputError(f"{path}: {DESCRIPTION} and the arrays disagree; delete the store and extract again")
        return cls(features, boxes, description)

    def __len__(self) -> int:
        """Images that have a row."""
        return len(self._rows)

    @property
    def regions(self) -> int:
        """Regions an image."""
        return self.features.shape[1]

    @property
    def dim(self) -> int:
        """Numbers a region."""
        return self.features.shape[2]

    @property
    def names(self) -> list[str]:
        """File names of the images, by row."""
        return list(self._rows)

    def row(self, name: str | None) -> int | None:
        """The row of an image, None where it has none."""
        return self._rows.get(name)

    def rows(self, names: Iterable[str | None]) -> np.ndarray:
        """The rows of images `[names]` int64, -1 where there is none."""
        return np.array([self._rows.get(name, -1) for name in names], dtype=np.int64)

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features `[rows, regions, dim]` float16 and boxes `[rows, regions, 4]` float32 of `rows`, in their order.

        Raises `IndexError` for a row that is not there, -1 among them.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and rows.min() < 0:
            raise IndexError("a row below 0: leave out the images that have no row")
        return self.features[rows], self.boxes[rows]


class FeatureWriter:
    """Writes a store image by image into a folder that is not there yet; a store only once `finish` returned."""

    def __init__(self, folder: Path, regions: int, dim: int):
        self.folder = Path(folder)
        self.folder.mkdir()
        self.images: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}
        self._features = _GrowingArray(self.folder / FEATURES, (regions, dim), np.float16)
        self._boxes = _GrowingArray(self.folder / BOXES, (regions, 4), np.float32)

    def add(self, names: Sequence[str], features: np.ndarray, boxes: np.ndarray) -> None:
        """Append images: features `[names, regions, dim]`, boxes `[names, regions, 4]`.

        Raises `ValueError` where a name was added before or a feature does not fit in float16.
        """
        with np.errstate(over="ignore"):
            stored = features.astype(np.float16)
        if not np.isfinite(stored).all():
            raise ValueError("a feature is not finite in float16")
        if len(set(names)) < len(names) or not self.images.keys().isdisjoint(names):
            raise ValueError("an image was added twice")
        self._features.append(stored)
        self._boxes.append(boxes)
        self.images.update({name: len(self.images) + place for place, name in enumerate(names)})

    def leave_out(self, name: str, reason: str) -> None:
        """Note that an image has no row, and why."""
        self.unreadable[name] = reason

    def finish(self, description: dict) -> None:
        """Write `store.json`: the description, and what is in which row."""
        self._features.close()
        self._boxes.close()
        known = {**description, "dtype": "float16", "images": self.images, "unreadable": self.unreadable}
        write_json(self.folder / DESCRIPTION, known)


class _GrowingArray:
    """A `.npy` file whose first axis grows; NumPy pads its header so that it can be written again in place."""

    def __init__(self, path: Path, tail: tuple[int, ...], dtype: type):
        self.tail, self.dtype, self.length = tail, np.dtype(dtype), 0
        self.stream = open(path, "wb")  # noqa: SIM115
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        if rows.shape[1:] != self.tail:
            raise ValueError(f"rows of shape {rows.shape[1:]}, expected {self.tail}")
        self.stream.write(np.ascontiguousarray(rows, self.dtype).tobytes())
        self.length += len(rows)

    def close(self) -> None:
        self.stream.seek(0)
        self._write_header()
        self.stream.close()

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length, *self.tail)}
        np.lib.format.write_array_header_1_0(self.stream, header)
