"""Arrow datasets: written row by row, whole or not at all, the same bytes for the same rows, nothing in a cache."""

from collections.abc import Iterable
from pathlib import Path

from datasets import (
    Dataset,
    DatasetDict,
    Features,
    concatenate_datasets,
    disable_progress_bars,
    load_from_disk,
)
from datasets.arrow_writer import ArrowWriter

from vlret.experiment import SPLITS
from vlret.files import InputError, remove, sha256, whole

disable_progress_bars()


def all_questions(path: Path) -> Dataset:
    """The questions of all splits, train, validation, test: the order of their vectors."""
    splits: DatasetDict = load_from_disk(str(path))
    return concatenate_datasets([splits[split] for split in SPLITS])


def write_table(rows: Iterable[dict], columns: Features, out: Path, empty: str) -> int:
    """Stream `rows` to a dataset folder and return their number; raises `InputError(empty)` when there is none."""
    with whole(out) as aside:
        stream = aside / "stream" / "rows.arrow"
        table = _stream(rows, columns, stream, empty)
        table.save_to_disk(str(aside))
        remove(stream.parent)
    return len(table)


def write_splits(splits: dict[str, list[dict]], columns: Features, out: Path) -> None:
    """Write lists of rows, none of them empty, to the folder of a `DatasetDict`."""
    with whole(out) as aside:
        streams = aside / "stream"
        tables = {
            name: _stream(rows, columns, streams / f"{name}.arrow", f"{out}: split {name} has no rows")
            for name, rows in splits.items()
        }
        DatasetDict(tables).save_to_disk(str(aside))
        remove(streams)


def _stream(rows: Iterable[dict], columns: Features, path: Path, empty: str) -> Dataset:
    """Rows written to one Arrow stream and opened from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with ArrowWriter(features=columns, path=str(path)) as writer:
        for count, row in enumerate(rows, start=1):  # noqa: B007
            writer.write(row)
        if count == 0:
            raise InputError(empty)
        writer.finalize()
    table = Dataset.from_file(str(path))
    # By default this is made of paths and times, and ends in the saved files.
    table._fingerprint = sha256(path)[:16]
    return table
