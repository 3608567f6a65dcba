"""Extract a feature store from image files; workers decode while the backbone computes."""

import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict, load_from_disk

from vlret.console import progress, say
from vlret.data.images import ImageError
from vlret.data.own import known_as
from vlret.encoders.inputs import prefetch
from vlret.features.backbones import Backbone, load
from vlret.features.store import FeatureWriter, is_whole, named
from vlret.features.workers import prepared
from vlret.files import InputError, is_file, part_of, remove, sha256, unfinished
from vlret.locks import Lock, locked
from vlret.settings import FeatureSettings
from vlret.typed import typed


@typed
def extract(
    backbone: str,
    weights: Path,
    images: Path,
    dataset: Path,
    shard: str,
    unreadable: int,
    settings: FeatureSettings,
    batch_size: int,
    workers: int,
    out: Path,
    threads: int = 2,
) -> None:
    """Extract the features of the images in column `image` of a table to the store `out`, sorted by name.

    An interrupted run is resumed by the same command, from a folder beside `out`.

    Parameters
    ----------
    backbone
        Its name in the config.
    weights
        Its published weights.
    images
        The folder with the image files.
    dataset
        A saved `Dataset` or `DatasetDict` with a column `image` of file names, lists of them, or nulls.
    shard
        The part of the images to extract: `2-of-4` is the second quarter of the names.
    unreadable
        How many images may be missing or broken; they are recorded with the reason.
    settings
        The backbone's config entry, and how to store its features.
    batch_size
        Images per forward pass.
    threads, workers
        Threads of the backbone; decoding processes.
    out
        The folder to write.

    Raises
    ------
    InputError
        If too many images are unreadable, or the folder has none of the images.
    """
    names = select_shard(image_names(dataset), shard)
    _check_folder(images, names, dataset)
    torch.set_num_threads(threads)
    model = load(backbone, settings.backbone, weights)
    description = _description(model, backbone, settings)
    work = out.parent / f"{out.name}.unfinished"
    with locked(out.parent / f".{out.name}.lock") as lock:
        unfinished(work, {**description, "sha256": _digest(batch_size, settings.dtype, names)})
        if not is_whole(work / "store"):
            writer = FeatureWriter(work / "store", model.regions, model.dim, settings.dtype)
            left = names[writer.batches * batch_size :]
            if writer.batches:
                say(f"{out}: resuming after {len(names) - len(left)} of {len(names)} images")
            limit = unreadable, _limit_hint(unreadable, dataset, work)
            filling = fill(writer, model, left, images, workers, batch_size, limit, lock)
            start = time.perf_counter()
            for _ in progress(filling, len(left), "images", backbone):
                pass
            speed = len(left) / max(time.perf_counter() - start, 1e-9)
            lock.check()
            writer.finish(description)
            counts = f"{len(writer.images)} images, {len(writer.unreadable)} unreadable"
            say(f"{backbone} features of {counts}: {speed:.1f} images/s")
        remove(out)
        os.replace(work / "store", out)
        remove(work)


def _check_folder(images: Path, names: list[str], dataset: Path) -> None:
    """Raise `InputError` if the folder has none of the images, so must be the wrong one."""
    if names and not any(Path(name).name == name and is_file(images / name) for name in names):
        raise InputError(f"{known_as(images)}: has none of the {len(names)} images in column image of {dataset}")


def _limit_hint(unreadable: int, dataset: Path, work: Path) -> str:
    """The end of the error about one unreadable image too many."""
    if unreadable == 0:
        return f"(column image of {dataset}); fix the file or remove its rows"
    return (
        f"(column image of {dataset}), and {unreadable} others cannot be read either; fix them and remove {work}, or "
        "raise limits.unreadable image in the config"
    )


def image_names(dataset: Path) -> list[str]:
    """The distinct file names in column `image` of a saved table, sorted; a row may name none, one or several."""
    try:
        table = load_from_disk(str(dataset))
    except FileNotFoundError as error:
        raise InputError(f"{dataset}: no saved table here") from error
    splits: list[Dataset] = list(table.values()) if isinstance(table, DatasetDict) else [table]
    if any("image" not in split.column_names for split in splits):
        raise InputError(f"{dataset}: the table has no column image")
    return sorted({name for split in splits for row in split["image"] for name in named(row)})


def select_shard(names: list[str], shard: str) -> list[str]:
    """The names of a shard such as `2-of-4`; shards partition the names, and sizes differ by at most one."""
    number, of = part_of(shard)
    return names[(number - 1) * len(names) // of : number * len(names) // of]


def fill(
    writer: FeatureWriter,
    model: Backbone,
    names: list[str],
    folder: Path,
    workers: int,
    batch_size: int,
    limit: tuple[int, str],
    lock: Lock,
) -> Iterator[str]:
    """Extract and store features batch by batch; yields each name after its batch is stored.

    While the backbone computes one batch, the next is collected and `workers` decode the images after it. Unreadable
    images are recorded and skipped; `limit` is how many are allowed, and the end of the `InputError` about one more.
    Nothing is stored after the lock is lost.
    """
    for batch in prefetch(_batches(prepared(names, folder, model.prepare, workers), batch_size)):
        readable = {name: image for name, image in batch if not isinstance(image, ImageError)}
        broken = {name: image for name, image in batch if isinstance(image, ImageError)}
        if len(writer.unreadable) + len(broken) > limit[0]:
            raise InputError(f"{next(iter(broken.values()))} {limit[1]}")
        described = model.describe(list(readable.values())) if readable else ()
        lock.check()
        writer.add(list(readable), *described, unreadable={name: error.reason for name, error in broken.items()})
        yield from (name for name, _ in batch)


def _batches(items: Iterator, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _digest(*parts: object) -> str:
    """A SHA-256 of `parts`."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _description(model: Backbone, name: str, settings: FeatureSettings) -> dict:
    return {
        "backbone": name,
        "entry": {"family": settings.backbone.family, "dim": settings.backbone.dim, **settings.backbone.options()},
        "weights_sha256": sha256(model.weights),
        "preprocessing": model.preprocessing,
        "versions": {library: importlib.metadata.version(library) for library in model.libraries},
    }
