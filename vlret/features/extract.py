"""From image files to a feature store: every image of a table once, decoded in workers while the backbone computes."""

import hashlib
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict, load_from_disk

from vlret.console import progress, say
from vlret.data.images import ImageError
from vlret.data.own import known_as
from vlret.encoders.inputs import ahead
from vlret.features.backbones import Backbone, load
from vlret.features.store import FeatureWriter, is_whole, named
from vlret.features.workers import prepared
from vlret.files import InputError, is_file, remove, sha256, unfinished
from vlret.locks import Lock, locked
from vlret.settings import FeatureSettings


def extract(
    backbone: str,
    weights: Path,
    images: Path,
    dataset: Path,
    shard: str,
    unreadable: int,
    settings: FeatureSettings,
    batch_size: int,
    threads: int,
    workers: int,
    out: Path,
) -> None:
    """Write the feature store `out` of the images that column `image` of a table names, in order of name.

    What was done before a kill stands in a folder beside `out`, from which the same command goes on.

    Parameters
    ----------
    backbone
        Its name in the config.
    weights
        Its published weights.
    images
        The folder of the image files.
    dataset
        A saved `Dataset` or `DatasetDict` with a column `image`: of file names, or lists of them, or nulls.
    shard
        Which part of the images: `2-of-4` is the second quarter of the names.
    unreadable
        How many images may be missing or broken: they are noted with the reason.
    settings
        The backbone's entry in the config, and how its features are stored.
    batch_size
        Images that are described at a time.
    threads, workers
        Of the backbone; processes that decode.
    out
        The folder to write.

    Raises
    ------
    InputError
        At the first image that is one too many to be unreadable, or if the folder has none at all.
    """
    names = share(image_names(dataset), shard)
    _check_folder(images, names, dataset)
    torch.set_num_threads(threads)
    model = load(backbone, settings.backbone, weights)
    description = _description(model, backbone, settings)
    work = out.parent / f"{out.name}.unfinished"
    with locked(out.parent / f".{out.name}.lock") as lock:
        unfinished(work, {**description, "sha256": _sum(batch_size, settings.dtype, names)})
        if not is_whole(work / "store"):
            writer = FeatureWriter(work / "store", model.regions, model.dim, settings.dtype)
            left = names[writer.batches * batch_size :]
            if writer.batches:
                say(f"{out}: {len(names) - len(left)} of {len(names)} images are there already; going on")
            limit = unreadable, _one_too_many(unreadable, dataset, work)
            filling = fill(writer, model, left, images, workers, batch_size, limit, lock)
            start = time.perf_counter()
            for _ in progress(filling, len(left), "images", backbone):
                pass
            speed = len(left) / max(time.perf_counter() - start, 1e-9)
            lock.check()
            writer.finish(description)
            told = f"{len(writer.images)} images, {len(writer.unreadable)} unreadable: {speed:.1f} images/s"
            say(f"{backbone} features of {told}")
        remove(out)
        os.replace(work / "store", out)
        remove(work)


def _check_folder(images: Path, names: list[str], dataset: Path) -> None:
    """Raise `InputError` where none of the images is there: it is not the right folder."""
    if names and not any(Path(name).name == name and is_file(images / name) for name in names):
        raise InputError(
            f"{known_as(images)}: none of the {len(names)} images is there that column image of {dataset} names"
        )


def _one_too_many(unreadable: int, dataset: Path, work: Path) -> str:
    """How the error ends that names one image more than may be unreadable."""
    if unreadable == 0:
        return f"(column image of {dataset}); mend the file or drop what names it"
    return (
        f"(column image of {dataset}), and {unreadable} others cannot be read either; mend them and remove {work}, or "
        "raise limits.unreadable image in the config"
    )


def image_names(dataset: Path) -> list[str]:
    """The distinct file names in column `image` of a saved table, sorted; a row may name none, one or several."""
    try:
        table = load_from_disk(str(dataset))
    except FileNotFoundError as error:
        raise InputError(f"{dataset}: no saved table there") from error
    splits: list[Dataset] = list(table.values()) if isinstance(table, DatasetDict) else [table]
    if any("image" not in split.column_names for split in splits):
        raise InputError(f"{dataset}: the table has no column image")
    return sorted({name for split in splits for row in split["image"] for name in named(row)})


def share(names: list[str], shard: str) -> list[str]:
    """The names of one shard, such as `2-of-4`: together all names, and sizes differ by one at most."""
    parts = re.fullmatch(r"([1-9]\d*)-of-([1-9]\d*)", shard)
    number, of = map(int, parts.groups()) if parts else (1, 0)
    if number > of:
        raise InputError(f"shard {shard!r}: expected one such as 2-of-4")
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
    """Describe images batch by batch and store them; each name, after its batch is stored.

    While one batch is described, the next is gathered and `workers` decode the images after it. An image that cannot
    be read is noted and passed over; `limit` says how many may be, and how the `InputError` ends that names one too
    many. Nothing is stored once the lock is another's.
    """
    for batch in ahead(_batches(prepared(names, folder, model.prepare, workers), batch_size)):
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


def _sum(*parts: object) -> str:
    """What differs where any of `parts` does."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _description(model: Backbone, name: str, settings: FeatureSettings) -> dict:
    return {
        "backbone": name,
        "entry": {"family": settings.backbone.family, "dim": settings.backbone.dim, **settings.backbone.options()},
        "weights_sha256": sha256(model.weights),
        "preprocessing": model.preprocessing,
        "versions": {library: importlib.metadata.version(library) for library in model.libraries},
    }
