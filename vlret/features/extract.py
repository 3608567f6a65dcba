"""From image files to a feature store: every image of a table once, decoded in workers while the backbone computes."""

import importlib
import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from datasets import Dataset, DatasetDict, load_from_disk
from PIL import Image
from torch.utils.data import DataLoader

from vlret.console import progress, say
from vlret.data.images import ImageError, open_image
from vlret.features.store import FeatureWriter
from vlret.files import InputError, sha256, whole

# A backbone is a module whose `backbone(weights)` gives a `Backbone`.
BACKBONES = {"effnet": "vlret.features.effnet"}

# Images that each worker decodes ahead of the backbone.
AHEAD = 32


class Backbone(Protocol):
    """A frozen image model: `preprocess` runs in workers on one image, `describe` on a batch of its results."""

    name: str
    regions: int
    dim: int
    preprocessing: str
    libraries: tuple[str, ...]

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """An RGB image as what `describe` takes."""

    def describe(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Features `[images, regions, dim]` and boxes `[images, regions, 4]`, x1, y1, x2, y2 in [0, 1]."""


def extract(
    backbone: str, weights: Path, images: Path, dataset: Path, unreadable: str, settings: dict, out: Path
) -> None:
    """Write the feature store `out` of every image that column `image` of a table names, in order of name.

    Parameters
    ----------
    backbone
        A name in `BACKBONES`.
    weights
        Its published weights.
    images
        The folder of the image files.
    dataset
        A saved `Dataset` or `DatasetDict` with a column `image` of file names (or nulls).
    unreadable
        What to do about an image that is missing or cannot be read: `error` raises an `InputError` that names it,
        `record` notes it with the reason.
    settings
        `batch_size`; `workers`, processes that decode (0: none); `threads` of the backbone.
    out
        The folder to write.
    """
    if backbone not in BACKBONES:
        raise InputError(f"backbone {backbone!r} is unknown: use one of {', '.join(BACKBONES)}")
    names = image_names(dataset)
    torch.set_num_threads(settings["threads"])
    model: Backbone = importlib.import_module(BACKBONES[backbone]).backbone(weights)
    with whole(out) as aside:
        writer = FeatureWriter(aside, model.regions, model.dim)
        start = time.perf_counter()
        decoded = _decoded(names, images, model, settings["workers"])
        for batch in _batches(progress(decoded, len(names), " images", f"{backbone} features"), settings["batch_size"]):
            _add(writer, model, batch, unreadable, dataset)
        seconds = time.perf_counter() - start
        writer.finish(_description(model, weights))
    speed = f"{len(names) / max(seconds, 1e-9):.1f} images/s"
    say(f"{backbone} features of {len(writer.images)} images, {len(writer.unreadable)} unreadable: {speed}")


def image_names(dataset: Path) -> list[str]:
    """The distinct file names in column `image` of a saved table, sorted."""
    try:
        table = load_from_disk(str(dataset))
    except FileNotFoundError as error:
        raise InputError(f"{dataset}: no saved table there") from error
    splits: list[Dataset] = list(table.values()) if isinstance(table, DatasetDict) else [table]
    if any("image" not in split.column_names for split in splits):
        raise InputError(f"{dataset}: the table has no column image")
    return sorted({name for split in splits for name in split["image"] if name is not None})


class _Files:
    """The images of a folder, opened and preprocessed where the loader asks: name, and pixels or what was wrong."""

    def __init__(self, names: list[str], folder: Path, model: Backbone):
        self.names, self.folder, self.preprocess = names, Path(folder), model.preprocess

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray | ImageError]:
        name = self.names[index]
        try:
            if Path(name).name != name:
                raise ImageError(name, "not the name of a file in the folder of images")
            return name, self.preprocess(open_image(self.folder / name))
        except ImageError as error:
            return name, error


def _decoded(
    names: list[str], folder: Path, model: Backbone, workers: int
) -> Iterator[tuple[str, np.ndarray | ImageError]]:
    files = _Files(names, folder, model)
    ahead = AHEAD if workers else None
    yield from DataLoader(files, batch_size=None, num_workers=workers, prefetch_factor=ahead, collate_fn=_as_it_is)


def _as_it_is(item: tuple) -> tuple:
    return item


def _batches(items: Iterator, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _add(writer: FeatureWriter, model: Backbone, batch: list, unreadable: str, dataset: Path) -> None:
    readable = []
    for name, pixels in batch:
        if not isinstance(pixels, ImageError):
            readable.append((name, pixels))
        elif unreadable == "record":
            writer.leave_out(name, pixels.reason)
        else:
            raise InputError(f"{pixels} (column image of {dataset}); mend the file or drop what names it")
    if readable:
        names, pixels = zip(*readable, strict=True)
        writer.add(names, *model.describe(pixels))


def _description(model: Backbone, weights: Path) -> dict:
    return {
        "backbone": model.name,
        "weights_sha256": sha256(weights),
        "preprocessing": model.preprocessing,
        "versions": {library: importlib.metadata.version(library) for library in model.libraries},
    }
