"""Records of published files, each with its place, and what is wrong with them.

What makes a record unusable is an `InputError` that names file, line and field. What can be lived with is counted by
kind in a JSON report, with examples, and may be limited from the config: `limits` is `{kind: most records}`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from vlret.files import InputError, read_jsonl

EXAMPLES = 10
REQUIRED = object()


class Problems:
    """Counts what is wrong with records that are kept, by kind, with the first examples."""

    def __init__(self, kinds: tuple[str, ...], limits: dict[str, int]):
        unknown = sorted(set(limits) - set(kinds))
        if unknown:
            raise InputError(f"limits: kind {unknown[0]!r} is unknown: use {', '.join(kinds)}")
        self.limits = limits
        self.found: dict[str, list[str]] = {kind: [] for kind in kinds}

    def add(self, kind: str, example: str) -> None:
        """Note one record."""
        self.found[kind].append(example)

    def check(self, source: str) -> None:
        """Raise `InputError` where a kind has more records than its limit."""
        for kind, examples in self.found.items():
            if len(examples) > self.limits.get(kind, len(examples)):
                raise InputError(
                    f"{source}: {len(examples)} records with {kind} (such as {examples[0]}), limits allow "
                    f"{self.limits[kind]}; mend the source or raise limits.{kind} in the config"
                )

    def report(self) -> dict:
        """Counts and examples by kind."""
        return {kind: {"count": len(found), "examples": found[:EXAMPLES]} for kind, found in self.found.items()}

    def __str__(self) -> str:
        """Counts in words."""
        return ", ".join(f"{len(found)} with {kind}" for kind, found in self.found.items())


class Unique:
    """Refuses a value that it has seen before."""

    def __init__(self, field: str):
        self.field = field
        self.places: dict[str, str] = {}

    def add(self, value: str, record: "Record") -> None:
        """Note `value` of `record`; raises `InputError` with both places where it stands twice."""
        if value in self.places:
            raise InputError(f"{record.place}: field {self.field!r} is {value}, as at {self.places[value]}; remove one")
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
                raise InputError(f"{self.place}: field {above!r} is {type(value).__name__}, expected dict")
            value = (value or {}).get(name)
        if value is None:
            if default is REQUIRED:
                raise InputError(f"{self.place}: field {field!r} is missing")
            return default
        if not isinstance(value, kind):
            raise InputError(f"{self.place}: field {field!r} is {type(value).__name__}, expected {kind.__name__}")
        return value

    def text(self, field: str) -> str:
        """A string that is not blank."""
        value = self.get(field, str)
        if not value.strip():
            raise InputError(f"{self.place}: field {field!r} is empty")
        return value

    def texts(self, field: str, default: object = REQUIRED) -> list[str]:
        """A list of strings."""
        values = self.get(field, list, default)
        for value in values:
            if not isinstance(value, str):
                raise InputError(f"{self.place}: field {field!r} holds {type(value).__name__}, expected strings")
        return values


def read_records(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of JSON lines files, one file after the other."""
    for path in paths:
        for number, values in read_jsonl(path):
            yield Record(values, f"{path}, line {number}")
