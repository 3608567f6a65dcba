"""Records of published files, each with its place, and what is wrong with them.

A kind of problem has a limit: so many records of it are allowed, all or none where the config's `limits` (`{kind: most
records}`) says nothing. Such records are counted, and the report has examples. What is allowed none stops the run at
the first, with file, line and field.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_from_disk

from vlret.files import InputError, read_lines, read_record, told

T = TypeVar("T")
Rows = list[bytes] | pa.RecordBatch | pa.Table  # lines of JSON, or rows of a table, that follow each other

EXAMPLES = 10
REQUIRED = object()
BATCH = 1000  # lines or rows in memory
MARK = "\ufeff"  # of byte order, which a file may begin with and which is lost there
ANY = None
# How many records of a kind are allowed where the config says nothing. Any number of those that are kept, none of those
# that are left out; of articles, those that are `repeated` are kept where the config allows them.
KINDS = {
    "no text": ANY,
    "no image": ANY,
    "no wikidata id": ANY,
    "no answer": ANY,
    "shared wikidata id": ANY,
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

    def __reduce__(self):
        """Travel between processes with the kind."""
        return RecordError, (str(self), self.kind)


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

    def note(self, error: RecordError) -> None:
        """Note what is wrong with one record; raises `InputError` where that is one more of its kind than allowed."""
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
    """One JSON record with its place, so that a wrong field can be named.

    `content` is a line of JSON, a row of a table, or the record's values; what is not read yet is read when it is asked
    for, so that one that cannot be read costs no other.
    """

    def __init__(self, content: object, place: str):
        self.content, self.place = content, place

    @cached_property
    def values(self) -> object:
        """The record's values; raises `RecordError` where its line or row cannot be read."""
        try:
            if isinstance(self.content, bytes):
                return read_record(self.content, self.place)
            if isinstance(self.content, pa.RecordBatch | pa.Table):
                return self.content.to_pylist()[0]
        except InputError as error:
            raise RecordError(str(error)) from error
        except Exception as error:
            raise RecordError(f"{self.place}: cannot be read ({told(error)})") from error
        return self.content

    def get(self, field: str, kind: type, default: object = REQUIRED) -> object:
        """The value at a dotted field name; raises `RecordError` where it is missing (or null) or of another type."""
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
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise RecordError(f"{self.place}: field {field!r} is {type(value).__name__}, expected {kind.__name__}")
        return self._writable(value, field) if isinstance(value, str) else value

    def _writable(self, value: str, field: str) -> str:
        """A string that UTF-8 can hold, as JSON's need not be."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            wrong = f"a half of a character, {value[error.start]!a}"
            raise RecordError(f"{self.place}: field {field!r} holds {wrong}, which UTF-8 cannot; mend it") from error
        return value

    def text(self, field: str) -> str:
        """A string that is not blank."""
        value = self.get(field, str)
        if not value.strip():
            raise RecordError(f"{self.place}: field {field!r} is empty")
        return value

    def word(self, field: str) -> str:
        """A string without white space, as the fields of TREC files are."""
        value = self.text(field)
        if value.split() != [value] or MARK in value:
            raise RecordError(f"{self.place}: field {field!r} is {value[:40]!a}, expected a word without white space")
        return value

    def texts(self, field: str, default: object = REQUIRED) -> list[str]:
        """A list of strings."""
        values = self.get(field, list, default)
        for value in values:
            if not isinstance(value, str):
                raise RecordError(f"{self.place}: field {field!r} holds {type(value).__name__}, expected strings")
            self._writable(value, field)
        return values


def taken(make: Callable[[Record], T], record: Record) -> T:
    """What `make` makes of a record, which alone pays for what goes wrong: its `RecordError`, whatever was raised."""
    try:
        return make(record)
    except InputError:
        raise
    except Exception as error:  # what a record may hold, and what libraries say to that, has no end
        raise RecordError(f"{record.place}: cannot be used ({told(error)})") from error


def read_records(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of files, one file after the other: JSON lines (also `.gz`), Parquet, saved datasets, or folders.

    Raises `InputError` for a file that is missing, broken, or of another kind; a line or row that cannot be read is
    a record that says so when it is asked for something.
    """
    for path in chain.from_iterable(files_of(Path(path)) for path in paths):
        first = 1
        for rows in read_rows(path):
            yield from (record for _, record in records_of(path, first, rows))
            first += len(rows)


def records_of(path: Path, first: int, rows: Rows) -> Iterator[tuple[int, Record]]:
    """The number of each record of a file's lines or rows, from that of the `first`; blank lines are passed over."""
    if isinstance(rows, list):
        for number, line in enumerate(rows, start=first):
            if line.strip():
                yield number, Record(line, f"{path}, line {number}")
        return
    try:
        contents = rows.to_pylist()
    except Exception:  # one of them, which says so itself
        contents = [rows.slice(row, 1) for row in range(len(rows))]
    for number, content in enumerate(contents, start=first):
        yield number, Record(content, f"{path}, row {number}")


def files_of(path: Path) -> list[Path]:
    """A file or a saved dataset as it is, and all files of any other folder in the order of their names."""
    if not path.is_dir() or (path / "state.json").is_file():
        return [path]
    if files := sorted(inside for inside in path.iterdir() if not inside.name.startswith(".")):
        return [file for inside in files for file in files_of(inside)]
    raise InputError(f"{path}: an empty folder, expected files of records")


def read_rows(path: Path) -> Iterator[Rows]:
    """The lines of a file, or the rows of a saved dataset or a Parquet file, some at a time.

    Raises `InputError` where it is missing or broken.
    """
    kind, read = ("lines", _lines)
    if path.is_dir():
        kind, read = "a saved dataset", _saved
    elif path.suffix == ".parquet":
        kind, read = "Parquet", _parquet
    try:
        yield from read(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be read as {kind} ({told(error)}); fetch it again") from error


def _lines(path: Path) -> Iterator[list[bytes]]:
    lines = read_lines(path)
    while rows := list(islice(lines, BATCH)):
        yield rows


def _saved(path: Path) -> Iterator[pa.Table]:
    return (pa.table(part) for part in load_from_disk(str(path)).with_format("arrow").iter(BATCH))


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH)
