"""Records of published files, each with its place and its problems.

Each kind of problem has a limit on its number of records: that of the config's `limits` (`{kind: maximum}`), else any
number or none. Records with problems are counted, and the report has examples. If none are allowed, the first stops the
run, naming file, line and field.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_from_disk

from vlret.data.own import known_as
from vlret.files import InputError, error_summary, read_lines, read_record
from vlret.suggest import nearest

T = TypeVar("T")
Rows = list[bytes] | pa.RecordBatch | pa.Table  # consecutive lines of JSON, or rows of a table

EXAMPLES = 10
REQUIRED = object()
BATCH = 1000  # lines or rows in memory
MARK = "\ufeff"  # byte order mark, dropped at the beginning of a file
ANY = None
# Default limits: any number of records that are kept, none that are dropped. `repeated` articles are kept if the config
# allows them.
KINDS = {
    "no text": ANY,
    "no image": ANY,
    "no wikidata id": ANY,
    "no answer": ANY,
    "shared wikidata id": ANY,
    "unreadable image": ANY,  # of articles, counted by vlret.features.extract
    "malformed": 0,
    "repeated": 0,
    "no article": 0,
    "missing image": 0,
    "no question": 0,
}
# Known fields, none of which is a misspelling of another.
FIELDS = frozenset(
    (
        *("id", "input", "original_question", "image", "wikidata_id", "output", "meta"),
        *("answer", "original_answer", "provenance", "title"),
        *("wikipedia_id", "wikipedia_title", "wikidata_info", "text", "paragraph", "type"),
        *("passage", "index", "question_id", "question", "value"),
    )
)
# The beginnings of files that are not JSON lines, and what to do with them.
FORMATS = (
    (rb"\x1f\x8b", "it is compressed; its name must end in .gz"),
    (rb"PAR1", "it is Parquet; its name must end in .parquet"),
    (rb"PK\x03\x04", "it is a ZIP archive or a spreadsheet; save it as JSON lines"),
    (rb"\xff\xfe|\xfe\xff", "it is UTF-16; save it as UTF-8"),
    (rb"<", "it looks like a web page or XML; JSON lines are needed"),
    (rb"\[", "one object a line, not an array"),
    (rb"\{\s*$", "one object a line, not spread over several"),
    (rb"[^{]*[,;\t]", "it looks like CSV; JSON lines are needed"),
)
LONGEST = 60  # characters of a value that a message suggests
MOST_KEYS = 8  # keys that a message lists


class RecordError(InputError):
    """A mistake in one record, its place first, and the kind of problem.

    `others` are further mistakes in the record.
    """

    def __init__(self, message: str, kind: str = "malformed"):
        super().__init__(message)
        self.kind = kind
        self.others: list[RecordError] = []

    def __reduce__(self):
        """Pickle with all attributes."""
        return type(self), (str(self), self.kind), vars(self)

    def all(self) -> list["RecordError"]:
        """This mistake and the others in its record."""
        return [self, *self.others]


class FormatError(RecordError):
    """A line that looks like a file of another format."""


class Problems:
    """Counts problems of records by kind, with the first examples; raises if there are too many.

    Parameters
    ----------
    kinds
        The kinds that a stage looks for, some of `KINDS`.
    limits
        The config's limits; may include kinds of other stages.
    """

    def __init__(self, kinds: Iterable[str], limits: Mapping[str, int]):
        unknown = sorted(set(limits) - set(KINDS))
        if unknown:
            raise InputError(f"limits: kind {unknown[0]!r} is unknown: use {', '.join(KINDS)}")
        self.limits = {kind: limits.get(kind, KINDS[kind]) for kind in kinds}
        self.counts = dict.fromkeys(self.limits, 0)
        self.examples: dict[str, list[str]] = {kind: [] for kind in self.limits}

    def add(self, kind: str, example: str) -> None:
        """Count one record that is kept."""
        self.extend(kind, [example])

    def extend(self, kind: str, examples: Sequence[str]) -> None:
        """Count records that are kept."""
        self.counts[kind] += len(examples)
        self.examples[kind] += examples[: EXAMPLES - len(self.examples[kind])]

    def note(self, error: RecordError) -> None:
        """Count one record's error; raises `InputError` if it exceeds the limit of its kind."""
        self.add(error.kind, str(error))
        limit = self.limits[error.kind]
        if limit is not ANY and self.counts[error.kind] > limit:
            more = f" (and {limit} records before it; limits.{error.kind} allows {limit})" if limit else ""
            raise InputError(f"{error}{more}") from error

    def excess(self) -> list[str]:
        """The kinds whose limit is exceeded."""
        return [kind for kind, limit in self.limits.items() if limit is not ANY and self.counts[kind] > limit]

    def check(self, source: str) -> None:
        """Raise `InputError` if a kind's limit is exceeded."""
        for kind in self.excess():
            raise InputError(
                f"{source}: {self.counts[kind]} records with {kind} (such as {self.examples[kind][0]}), limits allow "
                f"{self.limits[kind]}; fix the source or raise limits.{kind} in the config"
            )

    def report(self) -> dict:
        """Counts and examples by kind."""
        return {kind: {"count": count, "examples": self.examples[kind]} for kind, count in self.counts.items()}

    def __str__(self) -> str:
        """Counts as text, of the kinds that have no limit and of those that were found."""
        kinds = [kind for kind in self.counts if self.counts[kind] or KINDS[kind] is ANY]
        return ", ".join(f"{self.counts[kind]} with {kind}" for kind in kinds) or "no problem"


class Unique:
    """Rejects repeated values."""

    def __init__(self, field: str):
        self.field = field
        self.places: dict[str, str] = {}

    def add(self, value: str, record: "Record") -> None:
        """Remember `value` of `record`; raises `RecordError` with both places if it is repeated."""
        if value in self.places:
            raise RecordError(
                f"{record.place}: field {self.field!r} is {value}, as at {self.places[value]}; remove one", "repeated"
            )
        self.places[value] = record.place


class Record:
    """One JSON record with its place, so that errors can name field and place.

    `content` is a line of JSON, a row of a table, or the record's values. It is parsed lazily, so that an unreadable
    record affects no other.
    """

    def __init__(self, content: object, place: str):
        self.content, self.place = content, place

    @cached_property
    def values(self) -> object:
        """The record's values; raises `RecordError` if its line or row cannot be read."""
        if isinstance(self.content, bytes):
            return _parsed(self.content, self.place)
        try:
            if isinstance(self.content, pa.RecordBatch | pa.Table):
                return self.content.to_pylist()[0]
        except Exception as error:
            raise RecordError(f"{self.place}: cannot be read ({error_summary(error)})") from error
        return self.content

    def get(self, field: str, kind: type, default: object = REQUIRED) -> object:
        """The value at a dotted field name; raises `RecordError` if it is missing (or null) or of another type."""
        value, names = self.values, field.split(".")
        for depth, name in enumerate(names):
            if value is not None and not isinstance(value, dict):
                above = ".".join(names[:depth]) or "record"
                raise RecordError(f"{self.place}: field {above!r} is {type(value).__name__}, expected dict")
            holder, value = value or {}, (value or {}).get(name)
            if value is None and name not in holder and (there := _misspelt(name, frozenset(holder))):
                missing = f"{self.place}: field {field!r} is missing, and {there!r} is there"
                raise RecordError(f"{missing}; did you mean {name!r}?")
        if value is None:
            if default is REQUIRED:
                raise RecordError(f"{self.place}: field {field!r} is missing{_keys(holder)}")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = f"{self.place}: field {field!r} is {type(value).__name__}, expected {kind.__name__}"
            raise RecordError(f"{found}{written_as(value, kind)}")
        return self._writable(value, field) if isinstance(value, str) else value

    def _writable(self, value: str, field: str) -> str:
        """Return a string that UTF-8 can encode, unlike some in JSON."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            wrong = f"a lone surrogate, {value[error.start]!a}, which UTF-8 cannot encode"
            raise RecordError(f"{self.place}: field {field!r} has {wrong}; remove it") from error
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
                found = f"{self.place}: field {field!r} holds {type(value).__name__}, expected strings"
                raise RecordError(f"{found}{written_as(value, str)}")
            self._writable(value, field)
        return values


class Together:
    """Reads the fields of a record and collects all their errors."""

    def __init__(self):
        self.errors: list[RecordError] = []

    def __call__(self, read: Callable[..., T], *arguments: object) -> T | None:
        """Return the result of `read`; if it raises `RecordError`, collect that and return None.

        An unreadable record gives the same error for every field, and counts once.
        """
        try:
            return read(*arguments)
        except RecordError as error:
            known = {str(before) for before in self.errors}
            self.errors += [one for one in error.all() if str(one) not in known]
            return None

    def check(self) -> None:
        """Raise the first error, with the others attached, if there is any."""
        if self.errors:
            first, *first.others = self.errors
            raise first


def written_as(value: object, kind: type) -> str:
    """The end of a message: how to write a value of the wrong type correctly; empty if unknown."""
    right: object = None
    if kind is list and isinstance(value, str):
        right = [value]
    elif kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        right = str(value)
    elif kind is str and isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        right = value[0]
    elif kind is int and isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < LONGEST:
        right = int(value)
    text = json.dumps(right, ensure_ascii=False)
    return "" if right is None else f"; write {text if len(text) <= LONGEST else '[…]' if kind is list else 'a string'}"


@lru_cache(maxsize=1024)
def _misspelt(name: str, keys: frozenset[str]) -> str | None:
    """The key that is most likely a misspelling of `name`."""
    return nearest(name, sorted(keys - FIELDS))


def _keys(values: Mapping) -> str:
    """The end of a message about a missing field: the keys that exist."""
    if not values:
        return ""
    listed = ", ".join(str(key)[:LONGEST] for key in list(values)[:MOST_KEYS])
    return f"; the record has {listed}{', …' if len(values) > MOST_KEYS else ''}"


def _parsed(line: bytes, place: str) -> dict:
    """Parse an object from a line of JSON; raises `RecordError` with what the line looks like instead."""
    try:
        return read_record(line, place)
    except InputError as error:
        start = line.removeprefix(MARK.encode()).strip()
        for begin, advice in FORMATS:
            if re.match(begin, start):
                raise FormatError(f"{error}; {advice}") from error
        raise RecordError(f"{error}{_mended(start)}") from error


def _mended(line: bytes) -> str:
    """The end of a message: how to correct a line that is almost an object."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "; save the file as UTF-8"
    if re.match(r"\{\s*'", text):
        return "; JSON needs double quotes"
    return "; remove the comma at its end" if text.endswith("},") else ""


def taken(make: Callable[[Record], T], record: Record) -> T:
    """Return `make(record)`; any exception but `InputError` becomes a `RecordError` of this record."""
    try:
        return make(record)
    except InputError:
        raise
    except Exception as error:  # libraries raise anything for unforeseen values
        raise RecordError(f"{record.place}: cannot be used ({error_summary(error)})") from error


def read_records(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of files, in order: JSON lines (also `.gz`), Parquet, saved datasets, or folders of these.

    Raises `InputError` for a file that is missing, broken, or of another format; an unreadable line or row gives a
    record whose methods raise `RecordError`.
    """
    for path in chain.from_iterable(files_of(Path(path)) for path in paths):
        first = 1
        for rows in read_rows(path):
            yield from (record for _, record in records_of(path, first, rows))
            first += len(rows)


def records_of(path: Path, first: int, rows: Rows) -> Iterator[tuple[int, Record]]:
    """Yield `(number, record)` for a file's lines or rows, counted from `first`; blank lines are skipped."""
    if isinstance(rows, list):
        for number, line in enumerate(rows, start=first):
            if line.strip():
                yield number, Record(line, f"{path}, line {number}")
        return
    try:
        contents = rows.to_pylist()
    except Exception:  # one row, whose record raises the error
        contents = [rows.slice(row, 1) for row in range(len(rows))]
    for number, content in enumerate(contents, start=first):
        yield number, Record(content, f"{path}, row {number}")


def files_of(path: Path) -> list[Path]:
    """A file or a saved dataset itself; for any other folder, all files in it, sorted by name.

    Links to the user's own files are resolved, so that errors name what the user knows.
    """
    path = known_as(path)
    if not path.is_dir() or (path / "state.json").is_file():
        return [path]
    if files := sorted(inside for inside in path.iterdir() if not inside.name.startswith(".")):
        return [file for inside in files for file in files_of(inside)]
    raise InputError(f"{path}: an empty folder, expected files of records")


def read_rows(path: Path) -> Iterator[Rows]:
    """The lines of a file, or the rows of a saved dataset or a Parquet file, in batches.

    Raises `InputError` if it is missing or broken.
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
        raise InputError(f"{path}: cannot be read as {kind} ({error_summary(error)}); fetch it again") from error


def _lines(path: Path) -> Iterator[list[bytes]]:
    lines = read_lines(path)
    while rows := list(islice(lines, BATCH)):
        yield rows


def _saved(path: Path) -> Iterator[pa.Table]:
    return (pa.table(part) for part in load_from_disk(str(path)).with_format("arrow").iter(BATCH))


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH)
