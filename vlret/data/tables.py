"""Arrow datasets: written in batches, atomically, with the same bytes for the same rows, and nothing in a cache.

Long tables are streamed, not mapped: clusters and containers count the pages of a mapped file as memory.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import (
    Dataset,
    DatasetDict,
    DatasetInfo,
    Features,
    concatenate_datasets,
    disable_progress_bars,
    load_from_disk,
)
from datasets.table import InMemoryTable

from vlret.files import InputError, atomic, read_json, remove, sha256, write_json
from vlret.settings import SPLITS

disable_progress_bars()

ROWS = 1000  # rows per batch, if rows are written one by one
SHARD = 500_000_000  # bytes after which a new file begins


def all_questions(path: Path) -> Dataset:
    """The questions of all splits (train, validation, test), in the order of their vectors."""
    splits: DatasetDict = load_from_disk(str(path))
    return concatenate_datasets([splits[split] for split in SPLITS])


def article_of(passages: Path) -> np.ndarray:
    """The article row of each passage, `[passages]`, ascending; read without a Python object per passage."""
    return load_from_disk(str(passages)).select_columns(["article"]).with_format("numpy")[:]["article"]


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a saved dataset, in order, with one record batch (as written) in memory at a time."""
    table = load_from_disk(str(path))
    options = pa.ipc.IpcReadOptions(included_fields=[table.column_names.index(column) for column in columns])
    for file in table.cache_files:
        with pa.OSFile(file["filename"]) as stream, pa.ipc.open_stream(stream, options=options) as reader:
            for batch in reader:
                yield batch.select(columns)


def write_table(rows: Iterable[dict], columns: Features, out: Path, empty: str) -> int:
    """Stream `rows` to a dataset folder and return their number; raises `InputError(empty)` if there are none."""
    return write_batches(_batches(rows, columns), columns, out, empty)


def write_batches(batches: Iterable[pa.RecordBatch], columns: Features, out: Path, empty: str) -> int:
    """Stream record batches to a dataset folder, laid out as by `save_to_disk`, and return the number of rows.

    Raises `InputError(empty)` if there are none.
    """
    with atomic(out) as aside:
        rows, shards = _write_shards(batches, columns.arrow_schema, aside / "shards")
        if not rows:
            raise InputError(empty)
        digest = hashlib.sha256("".join(map(sha256, shards)).encode()).hexdigest()[:16]
        # The library writes the metadata for an empty table, whose file the shards then replace.
        Dataset(
            InMemoryTable(columns.arrow_schema.empty_table()), info=DatasetInfo(features=columns), fingerprint=digest
        ).save_to_disk(str(aside))
        remove(aside / "data-00000-of-00001.arrow")
        names = [f"data-{number:05d}-of-{len(shards):05d}.arrow" for number in range(len(shards))]
        for shard, name in zip(shards, names, strict=True):
            shard.rename(aside / name)
        remove(aside / "shards")
        state = read_json(aside / "state.json")
        write_json(aside / "state.json", {**state, "_data_files": [{"filename": name} for name in names]})
    return rows


def write_splits(splits: dict[str, list[dict]], columns: Features, out: Path) -> None:
    """Write non-empty lists of rows to the folder of a `DatasetDict`."""
    with atomic(out) as aside:
        aside.mkdir()
        for name, rows in splits.items():
            write_table(rows, columns, aside / name, empty=f"{out}: split {name} has no rows")
        write_json(aside / "dataset_dict.json", {"splits": list(splits)})


def _batches(rows: Iterable[dict], columns: Features) -> Iterator[pa.RecordBatch]:
    rows = iter(rows)
    while chunk := list(islice(rows, ROWS)):
        yield pa.RecordBatch.from_pylist(chunk, schema=columns.arrow_schema)


def _write_shards(batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path) -> tuple[int, list[Path]]:
    """Write shards; returns the number of rows and the files."""
    folder.mkdir(parents=True)
    rows, shards, batches = 0, [], iter(batches)
    while (first := next(batches, None)) is not None:
        shards.append(folder / f"{len(shards)}.arrow")
        with pa.OSFile(str(shards[-1]), "wb") as stream, pa.ipc.new_stream(stream, schema) as writer:
            for batch in chain([first], batches):
                writer.write_batch(batch.cast(schema))
                rows += len(batch)
                if stream.tell() >= SHARD:
                    break
    return rows, shards
