"""Records of published files, each with its place, and what is wrong with them.

A kind of problem has a limit: so many records of it are allowed, all or none where the config's `limits` (`{kind: most
records}`) says nothing. Such records are counted, and the report has examples. What is allowed none stops the run at
the first, with file, line and field.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_from_disk

from vlret.files import InputError, read_jsonl

EXAMPLES = 10
REQUIRED = object()
BATCH = 1000  # rows of a table in memory
ANY = None
# How many records of a kind are allowed where the config says nothing. The first five are kept, the others left out.
KINDS = {
    "no text": ANY,
    "no image": ANY,
    "no wikidata id": ANY,
    "no answer": ANY,
    "unreadable image": ANY,  # of articles: vlret.features.extract counts them
    "malformed": 0,
    "repeated": 0,
    "no article": 0,
    "missing image": 0,
    "no question": 0,
}


class RecordError(InputError):
    """What is wrong with one record, its place first, and the kind of problem that it is."""

    def __init__(self, message: str, kind: str = "malformed"):
        super().__init__(message)
        self.kind = kind


class Problems:
    """Counts what is wrong with records, by kind, with the first examples; stops where there are too many.

    Parameters
    ----------
    kinds
        Those that a stage looks for, some of `KINDS`.
    limits
        The config's; kinds of other stages may stand in it.
    """

    def __init__(self, kinds: Iterable[str], limits: Mapping[str, int]):
        unknown = sorted(set(limits) - set(KINDS))
        if unknown:
            raise InputError(f"limits: kind {unknown[0]!r} is unknown: use {', '.join(KINDS)}")
        self.limits = {kind: limits.get(kind, KINDS[kind]) for kind in kinds}
        self.counts = dict.fromkeys(self.limits, 0)
        self.examples: dict[str, list[str]] = {kind: [] for kind in self.limits}

    def add(self, kind: str, example: str) -> None:
        """Note one record that is kept."""
        self.extend(kind, [example])

    def extend(self, kind: str, examples: Sequence[str]) -> None:
        """Note records that are kept."""
        self.counts[kind] += len(examples)
        self.examples[kind] += examples[: EXAMPLES - len(self.examples[kind])]

    def leave_out(self, error: RecordError) -> None:
        """Note one record that is left out; raises `InputError` as soon as there are more of its kind than allowed."""
        self.add(error.kind, str(error))
        limit = self.limits[error.kind]
        if limit is not ANY and self.counts[error.kind] > limit:
            more = f" (and {limit} records before it; limits.{error.kind} allows {limit})" if limit else ""
            raise InputError(f"{error}{more}") from error

    def check(self, source: str) -> None:
        """Raise `InputError` where a kind has more records than its limit."""
        for kind, count in self.counts.items():
            if self.limits[kind] is not ANY and count > self.limits[kind]:
                raise InputError(
                    f"{source}: {count} records with {kind} (such as {self.examples[kind][0]}), limits allow "
                    f"{self.limits[kind]}; mend the source or raise limits.{kind} in the config"
                )

    def report(self) -> dict:
        """Counts and examples by kind."""
        return {kind: {"count": count, "examples": self.examples[kind]} for kind, count in self.counts.items()}

    def __str__(self) -> str:
        """Counts in words, of the kinds that are kept and of those that were found."""
        told = [kind for kind in self.counts if self.counts[kind] or KINDS[kind] is ANY]
        return ", ".join(f"{self.counts[kind]} with {kind}" for kind in told) or "no problem"


class Unique:
    """Refuses a value that it has seen before."""

    def __init__(self, field: str):
        self.field = field
        self.places: dict[str, str] = {}

    def add(self, value: str, record: "Record") -> None:
        """Note `value` of `record`; raises `InputError` with both places where it stands twice."""
        if value in self.places:
            raise RecordError(
                f"{record.place}: field {self.field!r} is {value}, as at {self.places[value]}; remove one", "repeated"
            )
        self.places[value] = record.place


class Record:
    """One JSON record with its place, so that a wrong field can be named."""

    def __init__(self, values: object, place: str):
        self.values, self.place = values, place

    def get(self, field: str, kind: type, default: object = REQUIRED) -> object:
        """The value at a dotted field name; raises `InputError` where it is missing (or null) or of another type."""
        value, names = self.values, field.split(".")
        for depth, name in enumerate(names):
            if value is not None and not isinstance(value, dict):
                above = ".".join(names[:depth]) or "record"
                raise RecordError(f"{self.place}: field {above!r} is {type(value).__name__}, expected dict")
            value = (value or {}).get(name)
        if value is None:
            if default is REQUIRED:
                raise RecordError(f"{self.place}: field {field!r} is missing")
            return default
        if not isinstance(value, kind):
            raise RecordError(f"{self.place}: field {field!r} is {type(value).__name__}, expected {kind.__name__}")
        return value

    def text(self, field: str) -> str:
        """A string that is not blank."""
        value = self.get(field, str)
        if not value.strip():
            raise RecordError(f"{self.place}: field {field!r} is empty")
        return value

    def texts(self, field: str, default: object = REQUIRED) -> list[str]:
        """A list of strings."""
        values = self.get(field, list, default)
        for value in values:
            if not isinstance(value, str):
                raise RecordError(f"{self.place}: field {field!r} holds {type(value).__name__}, expected strings")
        return values


def read_records(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of files, one file after the other: JSON lines (also `.gz`), Parquet, saved datasets, or folders.

    Raises `InputError` for a file that is missing, broken, or of another kind.
    """
    for path in chain.from_iterable(files_of(Path(path)) for path in paths):
        if holds_rows(path):
            yield from _of_batches(path, read_rows(path))
        else:
            for number, values in read_jsonl(path):
                yield Record(values, f"{path}, line {number}")


def holds_rows(path: Path) -> bool:
    """Whether a path is a saved dataset or a Parquet file, and not one of lines."""
    return path.is_dir() or path.suffix == ".parquet"


def files_of(path: Path) -> list[Path]:
    """A file or a saved dataset as it is, and all files of any other folder in the order of their names."""
    if not path.is_dir() or (path / "state.json").is_file():
        return [path]
    if files := sorted(inside for inside in path.iterdir() if not inside.name.startswith(".")):
        return [file for inside in files for file in files_of(inside)]
    raise InputError(f"{path}: an empty folder, expected files of records")


def read_rows(path: Path) -> Iterator[pa.RecordBatch | pa.Table]:
    """The rows of a saved dataset or a Parquet file, some at a time; `InputError` where it is not one."""
    if path.is_dir():
        yield from (pa.table(part) for part in load_from_disk(str(path)).with_format("arrow").iter(BATCH))
        return
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from error


def _of_batches(path: Path, batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for number, values in enumerate(batch.to_pylist(), start=number + 1):  # noqa: B020
            yield Record(values, f"{path}, row {number}")
