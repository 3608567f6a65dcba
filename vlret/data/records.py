"""Records of published files, each with its place, and what is wrong with them.

A kind of problem has a limit: so many records of it are allowed, all or none where the config's `limits` (`{kind: most
records}`) says nothing. Such records are counted, and the report has examples. What is allowed none stops the run at
the first, with file, line and field.
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

from vlret.data.own import known_as, nearest
from vlret.files import InputError, error_summary, read_lines, read_record

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
# Fields of records; none is a misspelling of another.
FIELDS = frozenset(
    (
        *("id", "input", "original_question", "image", "wikidata_id", "output", "meta"),
        *("answer", "original_answer", "provenance", "title"),
        *("wikipedia_id", "wikipedia_title", "wikidata_info", "text", "paragraph", "type"),
        *("passage", "index", "question_id", "question", "value"),
    )
)
# How files begin that are no JSON lines, and what to do with them.
FORMATS = (
    (rb"\x1f\x8b", "it is compressed; let its name end in .gz"),
    (rb"PAR1", "it is Parquet; let its name end in .parquet"),
    (rb"PK\x03\x04", "it is a ZIP archive or a spreadsheet; save it as JSON lines"),
    (rb"\xff\xfe|\xfe\xff", "it is UTF-16; save it as UTF-8"),
    (rb"<", "it looks like a web page or XML; JSON lines are needed"),
    (rb"\[", "one object a line, not an array"),
    (rb"\{\s*$", "one object a line, not spread over several"),
    (rb"[^{]*[,;\t]", "it looks like CSV; JSON lines are needed"),
)
LONGEST = 60  # characters of what a message tells to write
MOST_KEYS = 8  # that a message lists


class RecordError(InputError):
    """What is wrong with one record, its place first, and the kind of problem that it is.

    `others` are further mistakes in it.
    """

    def __init__(self, message: str, kind: str = "malformed"):
        super().__init__(message)
        self.kind = kind
        self.others: list[RecordError] = []

    def __reduce__(self):
        """Travel between processes with all of it."""
        return type(self), (str(self), self.kind), vars(self)

    def all(self) -> list["RecordError"]:
        """It, and the further mistakes in its record."""
        return [self, *self.others]


class FormatError(RecordError):
    """A line as they stand in files of another format."""


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

    def excess(self) -> list[str]:
        """The kinds that have more records than their limit."""
        return [kind for kind, limit in self.limits.items() if limit is not ANY and self.counts[kind] > limit]

    def check(self, source: str) -> None:
        """Raise `InputError` where a kind has more records than its limit."""
        for kind in self.excess():
            raise InputError(
                f"{source}: {self.counts[kind]} records with {kind} (such as {self.examples[kind][0]}), limits allow "
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
        if isinstance(self.content, bytes):
            return _parsed(self.content, self.place)
        try:
            if isinstance(self.content, pa.RecordBatch | pa.Table):
                return self.content.to_pylist()[0]
        except Exception as error:
            raise RecordError(f"{self.place}: cannot be read ({error_summary(error)})") from error
        return self.content

    def get(self, field: str, kind: type, default: object = REQUIRED) -> object:
        """The value at a dotted field name; raises `RecordError` where it is missing (or null) or of another type."""
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
                found = f"{self.place}: field {field!r} holds {type(value).__name__}, expected strings"
                raise RecordError(f"{found}{written_as(value, str)}")
            self._writable(value, field)
        return values


class Together:
    """Reads the fields of a record one after the other, so that each that is wrong is told of."""

    def __init__(self):
        self.errors: list[RecordError] = []

    def __call__(self, read: Callable[..., T], *arguments: object) -> T | None:
        """What `read` gives; None, and a note, where it raises `RecordError`.

        What cannot be read at all says so whichever field is asked for, and counts once.
        """
        try:
            return read(*arguments)
        except RecordError as error:
            known = {str(before) for before in self.errors}
            self.errors += [one for one in error.all() if str(one) not in known]
            return None

    def check(self) -> None:
        """Raise the first error, with the others, if there was any."""
        if self.errors:
            first, *first.others = self.errors
            raise first


def written_as(value: object, kind: type) -> str:
    """The end of a message that tells how a value of the wrong type is written rightly; nothing where that is open."""
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
    """The key that was most likely meant to be `name`."""
    return nearest(name, sorted(keys - FIELDS))


def _keys(values: Mapping) -> str:
    """The end of a message about a missing field: those that are there."""
    if not values:
        return ""
    listed = ", ".join(str(key)[:LONGEST] for key in list(values)[:MOST_KEYS])
    return f"; the record has {listed}{', …' if len(values) > MOST_KEYS else ''}"


def _parsed(line: bytes, place: str) -> dict:
    """The object on a line of JSON; raises `RecordError` with what the line looks like instead."""
    try:
        return read_record(line, place)
    except InputError as error:
        start = line.removeprefix(MARK.encode()).strip()
        for begin, advice in FORMATS:
            if re.match(begin, start):
                raise FormatError(f"{error}; {advice}") from error
        raise RecordError(f"{error}{_mended(start)}") from error


def _mended(line: bytes) -> str:
    """What to do with a line that is nearly an object."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "; save the file as UTF-8"
    if re.match(r"\{\s*'", text):
        return "; JSON has double quotes"
    return "; take away the comma at its end" if text.endswith("},") else ""


def taken(make: Callable[[Record], T], record: Record) -> T:
    """What `make` makes of a record, which alone pays for what goes wrong: its `RecordError`, whatever was raised."""
    try:
        return make(record)
    except InputError:
        raise
    except Exception as error:  # what a record may hold, and what libraries say to that, has no end
        raise RecordError(f"{record.place}: cannot be used ({error_summary(error)})") from error


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
    """A file or a saved dataset as it is, and all files of any other folder in the order of their names.

    Links to the user's own files give way to these, so that errors name what the user knows.
    """
    path = known_as(path)
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
