"""Published questions (JSON lines of ViQuAE, TriviaQA) to Arrow, every record checked and linked to its article."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from datasets import Dataset, Features, List, Value, load_from_disk

from vlret.batches import LargestBatch, check_batch
from vlret.console import say
from vlret.data.answers import has_answer
from vlret.data.own import known_as, nearest_file
from vlret.data.records import Problems, Record, RecordError, Together, Unique, read_records, taken
from vlret.data.tables import write_splits
from vlret.files import InputError, is_file, write_json
from vlret.suggest import suggestion

QUESTION = Features(
    {
        "id": Value("string"),
        "input": Value("string"),
        "original_question": Value("string"),
        "image": Value("string"),
        "wikidata_id": Value("string"),
        "output": {
            "original_answer": Value("string"),
            "answer": List(Value("string")),
            "provenance": List({"title": List(Value("string"))}),
        },
        "article": Value("int32"),
    }
)
QUESTION_PROBLEMS = ("no answer", "malformed", "repeated", "no article", "missing image")


def import_questions(
    train: Path,
    validation: Path,
    test: Path,
    articles: Path,
    images: Path | None,
    link: Literal["wikidata", "provenance"],
    limits: Mapping[str, int],
    out: Path,
    report: Path,
    batch: LargestBatch | None = None,
) -> None:
    """Read the questions of three splits into a `DatasetDict`, each linked to its article by column `article`.

    Column `original_question` is the question that names its entity, null if a record has none; questions without
    images name it in `input`. Lists of records may be stored as records of lists, as dataset hubs do.

    Parameters
    ----------
    train, validation, test
        Files for `vlret.data.records.read_records`.
    articles
        The table of `import_articles`.
    images
        The folder that must contain the files in field `image`; None for questions without images.
    link
        `wikidata`: the article with the record's `wikidata_id`; of several, the first whose title is in
        `output.provenance`, else the first. `provenance`: likewise, but a record without a `wikidata_id` (TriviaQA's)
        gets the first article of `output.provenance`, and that article's entity, else its id.
    limits
        Maximum records by kind. Those with `no answer` are kept; those that are `malformed` (anything else wrong, such
        as an id with spaces or a lone surrogate) or `repeated` (an id, in any split), or have `no article` or a
        `missing image`, are dropped if limits allow it.
    out
        The table to write.
    report
        JSON: counts of questions, entities and problems of each kind, with examples.
    batch
        The largest batch of distinct entities that a training draws from the training questions.

    Raises
    ------
    InputError
        For more problems than allowed, a broken file, a split without questions, or fewer entities than `batch` needs.
    """
    find, ids = Links(articles, link), Unique("id")
    splits, counts = {}, {}
    for split, path in {"train": train, "validation": validation, "test": test}.items():
        problems = Problems(QUESTION_PROBLEMS, limits)
        splits[split] = []
        for _, row, error in read_questions([path], find, images, ids):
            if error:
                problems.note(error)
                continue
            if not has_answer(row["output"]):
                problems.add("no answer", row["id"])
            splits[split].append(row)
        if not splits[split]:
            raise InputError(no_question(path))
        problems.check(str(known_as(path)))
        entities = len({row["wikidata_id"] for row in splits[split]})
        counts[split] = {"questions": len(splits[split]), "entities": entities, **problems.report()}
        say(f"{split}: {len(splits[split])} questions: {problems}")
    if batch:
        check_batch(batch, counts["train"]["entities"])
    write_splits(splits, QUESTION, out)
    write_json(report, counts)


def read_questions(
    paths: Iterable[Path], find: "Links", images: Path | None, ids: Unique, look: bool = True
) -> Iterator[tuple[Record, dict, None] | tuple[Record, None, RecordError]]:
    """Yield each record with its row, or with its error.

    `ids` has the ids of all splits. Without `look`, missing images are not errors.
    """
    make = partial(_question, find=find, images=images, look=look)
    for record in read_records(paths):
        try:
            row = taken(make, record)
            ids.add(row["id"], record)
        except RecordError as error:
            yield record, None, error
        else:
            yield record, row, None


def no_question(path: Path) -> str:
    """The message for a split's file without a question."""
    return f"{known_as(path)}: no question in this file; every split needs some"


class Links:
    """Finds the article of a question; of millions of articles, only the columns in use are in memory.

    `articles` is a table, or the path of a saved one.
    """

    def __init__(self, articles: Path | Dataset, link: str):
        table = articles if isinstance(articles, Dataset) else load_from_disk(str(articles))
        self.link, self.table = link, table.select_columns(["id", "title", "wikidata_id"])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Entity -> row of its (first) article."""
        rows = rows_by_entity(self.table)
        rows.pop(None, None)
        return rows

    @cached_property
    def further(self) -> dict[str, list[int]]:
        """Entity -> rows of its articles after the first, if it has several."""
        found: dict[str, list[int]] = {}
        for row, entity in enumerate(self.table.data.column("wikidata_id").to_pylist()):
            if self.rows.get(entity, row) != row:
                found.setdefault(entity, []).append(row)
        return found

    @cached_property
    def titles(self) -> dict[str, int]:
        """Title -> row of its article."""
        return rows_by_title(self.table)

    def __call__(self, record: Record, provenance: list[dict]) -> tuple[int, str]:
        """The question's article row and entity; raises `RecordError` of kind `no article`."""
        if self.link == "wikidata" or record.get("wikidata_id", str, None):
            entity = record.text("wikidata_id")
            if entity not in self.rows:
                message = f"{record.place}: field 'wikidata_id' is {entity}, and no article has it"
                raise RecordError(f"{message}{suggestion(self._other_spelling(entity))}", "no article")
            return self._row(entity, provenance), entity
        rows = linked_rows(provenance, self.titles)
        if not rows:
            raise RecordError(f"{record.place}: no article has a title of 'output.provenance'", "no article")
        article = self.table[rows[0]]
        return rows[0], article["wikidata_id"] or article["id"]

    def _other_spelling(self, entity: str) -> str | None:
        """The id in a Wikidata URL, or with a capital Q, if an article has it."""
        found = re.fullmatch(r"(?:\S*/)?q([0-9]+)", entity.strip(), re.IGNORECASE)
        return f"Q{found[1]}" if found and f"Q{found[1]}" in self.rows else None

    def _row(self, entity: str, provenance: list[dict]) -> int:
        """The article of an entity: of several, the first one named by the provenance, else the first."""
        rows = [self.rows[entity], *self.further.get(entity, ())]
        named = {entry["title"][0] for entry in provenance if entry["title"]} if len(rows) > 1 else ()
        return next((row for row in rows if named and self.table[row]["title"] in named), rows[0])


def rows_by_entity(articles: Dataset) -> dict[str | None, int]:
    """`wikidata_id` -> row of its (first) article."""
    rows: dict[str | None, int] = {}
    for row, entity in enumerate(articles.data.column("wikidata_id").to_pylist()):
        rows.setdefault(entity, row)
    return rows


def rows_by_title(articles: Dataset) -> dict[str, int]:
    """Title -> row of the article, the last of those with the same title (meerqat's `title2index`)."""
    return {title: row for row, title in enumerate(articles.data.column("title").to_pylist())}


def linked_rows(provenance: list[dict], rows: dict[str, int]) -> list[int]:
    """The articles in a question's provenance, by the first title of each entry, each once, in order."""
    titles = (entry["title"][0] for entry in provenance if entry["title"])
    return list(dict.fromkeys(rows[title] for title in titles if title in rows))


def _question(record: Record, find: Links, images: Path | None, look: bool = True) -> dict:
    read = Together()
    output = read(read_output, record)
    article, entity = read(find, record, output["provenance"] if output else []) or (None, None)
    asked = read(record.text, "input")
    row = {
        "id": read(record.word, "id"),
        "input": asked,
        "original_question": read(record.get, "original_question", str, None) or (asked if images is None else None),
        "image": None if images is None else read(_image, record, images, look),
        "wikidata_id": entity,
        "output": output,
        "article": article,
    }
    read.check()
    return row


def _image(record: Record, images: Path, look: bool) -> str:
    image = record.text("image")
    if Path(image).name != image:
        raise RecordError(f"{record.place}: field 'image' is {image!r}, expected a file name without folders")
    if look and not is_file(images / image):
        message = f"{record.place}: field 'image' names {image}, and {known_as(images)} holds no such file"
        raise RecordError(f"{message}{suggestion(nearest_file(images / image))}", "missing image")
    return image


def read_output(record: Record) -> dict:
    """`output` as `{original_answer, answer, provenance}`, from that or from KILT's list of one record per answer."""
    found = record.get("output", object, None)
    if isinstance(found, list) and not any(isinstance(part, str) for part in found):
        parts = [Record(part, f"{record.place}, output") for part in found]
        answers = [answer for part in parts if (answer := part.get("answer", str, ""))]
        sources = [_entries(part, "provenance") for part in parts]
        place = f"{record.place}, output.provenance"
        titles = [[title for entry in s if (title := Record(entry, place).get("title", str, ""))] for s in sources]
        return {"original_answer": "", "answer": answers, "provenance": [{"title": each} for each in titles if each]}
    if not isinstance(found, dict):
        raise _no_output(record, found)
    place, read = f"{record.place}, output.provenance", Together()
    row = {
        "original_answer": read(record.get, "output.original_answer", str, ""),
        "answer": read(record.texts, "output.answer", []),
    }
    entries = read(_entries, record, "output.provenance") or []
    row["provenance"] = [{"title": read(Record(entry, place).texts, "title", [])} for entry in entries]
    read.check()
    return row


def _no_output(record: Record, found: object) -> RecordError:
    """The error for a missing `output`, or one of plain strings; suggests how to write it."""
    wrong = "is missing" if found is None else f"is {type(found).__name__}, expected dict"
    bare = found or next((record.values[key] for key in ("answer", "answers") if key in record.values), None)
    texts = [bare] if isinstance(bare, str) else bare
    message = f"{record.place}: field 'output' {wrong}"
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return RecordError(message)
    return RecordError(f'{message}; write "output": {json.dumps({"answer": texts}, ensure_ascii=False)}')


def _entries(record: Record, field: str) -> list[dict]:
    """A list of records with a title, stored as such or as a record of lists."""
    found = record.get(field, object, [])
    lists = isinstance(found, dict) and isinstance(found.get("title"), list)
    entries = [{"title": titles} for titles in found["title"]] if lists else found
    if not isinstance(entries, list):
        raise RecordError(f"{record.place}: field {field!r} is {type(found).__name__}, expected list")
    return entries
