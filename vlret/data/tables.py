"""Writing Arrow datasets: row by row, whole or not at all, the same bytes for the same rows, nothing in a cache."""

from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, disable_progress_bars
from datasets.arrow_writer import ArrowWriter

from vlret.files import InputError, remove, whole

disable_progress_bars()


def write_table(rows: Iterable[dict], columns: Features, out: Path, empty: str) -> int:
    """Stream `rows` to a dataset folder and return their number; raises `InputError(empty)` when there is none."""
    with whole(out) as aside:
        stream = aside / "stream" / "rows.arrow"
        stream.parent.mkdir(parents=True)
        count = 0
        with ArrowWriter(features=columns, path=str(stream)) as writer:
            for count, row in enumerate(rows, start=1):
                writer.write(row)
            if count == 0:
                raise InputError(empty)
            writer.finalize()
        _named(Dataset.from_file(str(stream))).save_to_disk(str(aside))
        remove(stream.parent)
    return count


def write_splits(splits: dict[str, list[dict]], columns: Features, out: Path) -> None:
    """Write lists of rows as a `DatasetDict` folder."""
    with whole(out) as aside:
        DatasetDict(
            {name: _named(Dataset.from_list(rows, features=columns)) for name, rows in splits.items()}
        ).save_to_disk(str(aside))


def _named(dataset: Dataset) -> Dataset:
    # The fingerprint is made of paths and times by default, and ends in the files.
    dataset._fingerprint = "vlret"
    return dataset
