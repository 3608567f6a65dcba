"""Published articles (KILT's knowledge base, ViQuAE's with images) to Arrow, every record checked.

Files are read in chunks of lines, which worker processes parse, check and convert to record batches. Only 24 bytes per
article stay in memory, to find repeated identifiers.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value

from vlret.console import progress, say
from vlret.data.own import known_as
from vlret.data.parallel import in_order
from vlret.data.records import Problems, Record, RecordError, Rows, Together, files_of, read_rows, records_of, taken
from vlret.data.tables import write_batches
from vlret.files import write_json

ARTICLE = Features(
    {
        "id": Value("string"),
        "title": Value("string"),
        "paragraphs": List(Value("string")),
        "image": Value("string"),
        "wikidata_id": Value("string"),
        "type": Value("string"),
    }
)
KEPT = ("no text", "no image", "no wikidata id")
# Values that articles may share: column -> field, kind of problem. Thousands of KILT's articles share an entity with
# another: facebookresearch/KILT#43.
ALIKE = {"id": ("wikipedia_id", "repeated"), "wikidata_id": ("wikidata_info.wikidata_id", "shared wikidata id")}

ARTICLE_PROBLEMS = (*KEPT, *(kind for _, kind in ALIKE.values()), "malformed")


class Chunk(NamedTuple):
    """Consecutive lines, or rows of a table; `first` is the number of the first, from 1.

    `kind` is the type of articles without one.
    """

    path: Path
    kind: str | None
    first: int
    rows: Rows

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yield `(number, record)`, skipping blank lines."""
        return records_of(self.path, self.first, self.rows)


class Articles(NamedTuple):
    """A parsed chunk: articles, their line numbers, titles by kind of problem, and errors of the dropped records."""

    path: Path
    batch: pa.RecordBatch
    numbers: list[int]
    problems: dict[str, list[str]]
    malformed: list[RecordError]


def import_articles(
    wikipedia: list[Path], limits: Mapping[str, int], out: Path, report: Path, workers: int = 1
) -> None:
    """Read knowledge base files (KILT's fields plus `image`), in order, into one dataset of articles.

    Files are JSON lines (`.gz` if compressed), Parquet, saved datasets, or folders of these; lists of records may be
    stored as records of lists. Columns: `id` (`wikipedia_id`), `title`, `paragraphs` (as published, title first),
    `image` (file name or null), `wikidata_id` (or null), `type` (kind of entity, such as `country`; for a record
    without this field, its file or folder's name up to the first dot if there are several, as ViQuAE's are split by
    kind, else null).

    Parameters
    ----------
    wikipedia
        The files and folders.
    limits
        Maximum records by kind: `no text`, `no image`, `no wikidata id`, `shared wikidata id` (with an earlier article)
        and `repeated` (its `id`), which are kept, and `malformed`, which are dropped.
    out
        The table to write.
    report
        JSON: count and examples of each kind.
    workers
        Processes that parse; the result does not depend on their number.

    Raises
    ------
    InputError
        For more of a kind than `limits` allows, a broken file, or no article at all.
    """
    names = ", ".join(str(known_as(path)) for path in wikipedia)
    problems, places = Problems(ARTICLE_PROBLEMS, limits), Places()

    def batches() -> Iterator[pa.RecordBatch]:
        for articles in read_articles(wikipedia, workers):
            for kind, titles in articles.problems.items():
                problems.extend(kind, titles)
            for error in articles.malformed:
                problems.note(error)
            places.add(articles)
            yield articles.batch
        for error in places.alike():
            problems.note(error)
        problems.check(names)

    count = write_batches(batches(), ARTICLE, out, empty=no_article(wikipedia))
    write_json(report, {"articles": count, **problems.report()})
    say(f"{count} articles: {problems}")


def read_articles(wikipedia: list[Path], workers: int = 1) -> Iterator[Articles]:
    """The articles of files, in order, a chunk at a time."""
    kinds = [path.name.partition(".")[0] if len(wikipedia) > 1 else None for path in wikipedia]
    read = in_order(_read, _chunks(zip(wikipedia, kinds, strict=True)), workers)
    return progress(read, None, "article", "articles", size=lambda articles: len(articles.numbers))


def no_article(wikipedia: list[Path]) -> str:
    """The message for files without an article."""
    return f"{', '.join(str(known_as(path)) for path in wikipedia)}: the knowledge base is empty"


def _chunks(paths: Iterable[tuple[Path, str | None]]) -> Iterator[Chunk]:
    """Cut files, each with its kind, into chunks; independent of the number of workers."""
    for file, kind in ((file, kind) for path, kind in paths for file in files_of(path)):
        first = 1
        for rows in read_rows(file):
            yield Chunk(file, kind, first, rows)
            first += len(rows)


def _read(chunk: Chunk) -> Articles:
    """Parse and check a chunk."""
    rows, numbers, malformed, problems = [], [], [], {kind: [] for kind in KEPT}
    for number, record in chunk.records():
        try:
            row = taken(partial(_article, kind=chunk.kind), record)
        except RecordError as error:
            malformed.append(error)
            continue
        if not any(paragraph.strip() for paragraph in row["paragraphs"][1:]):
            problems["no text"].append(row["title"])
        if row["image"] is None:
            problems["no image"].append(row["title"])
        if row["wikidata_id"] is None:
            problems["no wikidata id"].append(row["title"])
        rows.append(row)
        numbers.append(number)
    batch = pa.RecordBatch.from_pylist(rows, schema=ARTICLE.arrow_schema)
    return Articles(chunk.path, batch, numbers, problems, malformed)


def _article(record: Record, kind: str | None) -> dict:
    read = Together()
    row = {
        "id": read(record.text, "wikipedia_id"),
        "title": read(record.text, "wikipedia_title"),
        "paragraphs": read(_paragraphs, record),
        "image": read(record.get, "image", str, None) or None,
        "wikidata_id": read(_entity, record),
        "type": read(record.get, "type", str, None) or kind,
    }
    read.check()
    return row


def _entity(record: Record) -> str | None:
    return record.get("wikidata_info.wikidata_id", str, None) or record.get("wikidata_id", str, None) or None


def _paragraphs(record: Record) -> list[str]:
    """Read `{"paragraph": [...]}` (the hub's), `[...]` (KILT's own file) or `[{"paragraph": ...}, ...]`."""
    texts = record.get("text", object, {})
    if isinstance(texts, str):
        advice = 'write {"paragraph": [the title, a paragraph, …]}'
        raise RecordError(f"{record.place}: field 'text' is str, expected dict; {advice}")
    if not isinstance(texts, list):
        return record.texts("text.paragraph")
    if texts and isinstance(texts[0], dict):
        return [Record(text, f"{record.place}, text").get("paragraph", str) for text in texts]
    return record.texts("text")


class Places:
    """The place of each article and hashes of its identifiers: bounded memory for millions of articles."""

    def __init__(self):
        self.numbers, self.files = array("L"), []
        self.hashes = {column: array("q") for column in ALIKE}

    def add(self, articles: Articles) -> None:
        """Note the articles of a chunk."""
        if not self.files or self.files[-1][1] != articles.path:
            self.files.append((len(self.numbers), articles.path))
        self.numbers.extend(articles.numbers)
        for column, hashes in self.hashes.items():
            hashes.extend(0 if value is None else hash(value) or 1 for value in articles.batch[column].to_pylist())

    def alike(self) -> Iterator[RecordError]:
        """An error for each article that shares a value with an earlier one, naming both places, in order."""
        for column, (field, kind) in ALIKE.items():
            pairs = self._same_hash(column)
            records = self._look_up({row for pair in pairs for row in pair})
            for again, before in pairs:
                value, other = (_article(records[row], None)[column] for row in (again, before))
                if value == other:
                    places = f"{records[again].place}: field {field!r} is {value}, as at {records[before].place}"
                    yield RecordError(f"{places}; remove one", kind)

    def _same_hash(self, column: str) -> list[tuple[int, int]]:
        """Pairs of rows: an article, and the last one before it with the same hash."""
        hashes = np.frombuffer(self.hashes[column], np.int64)
        order = np.argsort(hashes, kind="stable")
        same = (hashes[order[1:]] == hashes[order[:-1]]) & (hashes[order[1:]] != 0)
        return sorted(zip(order[1:][same].tolist(), order[:-1][same].tolist(), strict=True))

    def _look_up(self, rows: set[int]) -> dict[int, Record]:
        """The records of some articles by row; each of their files is read once more."""
        wanted: dict[Path, dict[int, list[int]]] = {}
        for row in rows:
            path = self.files[bisect_right(self.files, row, key=lambda file: file[0]) - 1][1]
            wanted.setdefault(path, {}).setdefault(self.numbers[row], []).append(row)
        found = {}
        for path, numbers in wanted.items():
            last = max(numbers)
            for chunk in takewhile(lambda chunk, last=last: chunk.first <= last, _chunks([(path, None)])):
                if any(number in numbers for number in range(chunk.first, chunk.first + len(chunk.rows))):
                    found.update((row, record) for at, record in chunk.records() for row in numbers.get(at, ()))
        return found
