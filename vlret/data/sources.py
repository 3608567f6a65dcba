"""Questions and articles as published (ViQuAE's JSON lines, KILT's knowledge base) to Arrow, every record checked.

What makes a record unusable is an `InputError` that names file, line and field. What can be lived with is counted by
kind in a JSON report, with examples, and may be limited from the config: `limits` is `{kind: most records}`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Features, List, Value, load_from_disk

from vlret.console import progress, say
from vlret.data.answers import has_answer
from vlret.data.tables import write_splits, write_table
from vlret.files import InputError, read_jsonl, write_json

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
ARTICLE_PROBLEMS = ("no text", "no image")
QUESTION_PROBLEMS = ("no answer",)
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


def import_articles(wikipedia: list[Path], limits: dict, out: Path, report: Path) -> None:
    """Read knowledge base files (JSON lines, KILT fields plus `image`) in order to one dataset of articles.

    Columns: `id` (`wikipedia_id`), `title`, `paragraphs` (as published, the first is the title), `image` (file name
    or null), `wikidata_id`, `type` (what kind of thing it is about, such as `country`; null where a record has no such
    field, as in KILT's knowledge base and ViQuAE's). Kinds for `limits`: `no text` (the article is kept), `no image`.
    Raises `InputError` for a malformed line, a missing or mistyped field, an `id` or `wikidata_id` that stands twice,
    and when there is no article at all.
    """
    names = ", ".join(map(str, wikipedia))
    problems = Problems(ARTICLE_PROBLEMS, limits)
    ids, entities = Unique("wikipedia_id"), Unique("wikidata_info.wikidata_id")

    def rows() -> Iterator[dict]:
        for record in progress(_records(wikipedia), None, "article", "articles"):
            row = _article(record)
            ids.add(row["id"], record)
            entities.add(row["wikidata_id"], record)
            if not any(paragraph.strip() for paragraph in row["paragraphs"][1:]):
                problems.add("no text", row["title"])
            if row["image"] is None:
                problems.add("no image", row["title"])
            yield row
        problems.check(names)

    count = write_table(rows(), ARTICLE, out, empty=f"{names}: the knowledge base is empty")
    write_json(report, {"articles": count, **problems.report()})
    say(f"{count} articles: {problems}")


def import_questions(
    train: Path, validation: Path, test: Path, articles: Path, images: Path, limits: dict, out: Path, report: Path
) -> None:
    """Read the three files of questions (ViQuAE's JSON lines) to a `DatasetDict`, each linked to its article.

    Column `original_question` is the question that names its entity (TriviaQA's), null where a record has none.
    `articles` is the dataset of `import_articles`; a question belongs to the article with its `wikidata_id`, whose row
    goes to column `article`. `images` is the folder that must hold the file that `image` names. Lists of records may
    come as records of lists, as dataset hubs store them. Kind for `limits`: `no answer` (the question is kept). Raises
    `InputError` for a malformed line, a missing or mistyped field, an id that stands twice (in any split), an unknown
    `wikidata_id`, a missing image, and a file without questions.
    """
    rows_of = {entity: row for row, entity in enumerate(load_from_disk(str(articles))["wikidata_id"])}
    ids = Unique("id")
    splits, counts = {}, {}
    for split, path in {"train": train, "validation": validation, "test": test}.items():
        problems = Problems(QUESTION_PROBLEMS, limits)
        splits[split] = []
        for record in _records([path]):
            row = _question(record, rows_of, images)
            ids.add(row["id"], record)
            if not has_answer(row["output"]):
                problems.add("no answer", row["id"])
            splits[split].append(row)
        if not splits[split]:
            raise InputError(f"{path}: no question in this file")
        problems.check(str(path))
        counts[split] = {"questions": len(splits[split]), **problems.report()}
        say(f"{split}: {len(splits[split])} questions: {problems}")
    write_splits(splits, QUESTION, out)
    write_json(report, counts)


def _article(record: Record) -> dict:
    entity = record.get("wikidata_info.wikidata_id", str, None) or record.text("wikidata_id")
    return {
        "id": record.text("wikipedia_id"),
        "title": record.text("wikipedia_title"),
        "paragraphs": record.texts("text.paragraph"),
        "image": record.get("image", str, None) or None,
        "wikidata_id": entity,
        "type": record.get("type", str, None) or None,
    }


def _question(record: Record, rows_of: dict[str, int], images: Path) -> dict:
    entity, image = record.text("wikidata_id"), record.text("image")
    if entity not in rows_of:
        raise InputError(f"{record.place}: field 'wikidata_id' is {entity}, and no article has it")
    if Path(image).name != image:
        raise InputError(f"{record.place}: field 'image' is {image!r}, expected a file name without folders")
    if not (images / image).is_file():
        raise InputError(f"{record.place}: field 'image' names {image}, and {images} holds no such file")
    record.get("output", dict)
    return {
        "id": record.text("id"),
        "input": record.text("input"),
        "original_question": record.get("original_question", str, None) or None,
        "image": image,
        "wikidata_id": entity,
        "output": {
            "original_answer": record.get("output.original_answer", str, ""),
            "answer": record.texts("output.answer", []),
            "provenance": _provenance(record),
        },
        "article": rows_of[entity],
    }


def _provenance(record: Record) -> list[dict]:
    """`[{"title": [...]}]`, from that or from `{"title": [[...]]}`."""
    found = record.get("output.provenance", object, [])
    lists = isinstance(found, dict) and isinstance(found.get("title"), list)
    entries = [{"title": titles} for titles in found["title"]] if lists else found
    if not isinstance(entries, list):
        raise InputError(f"{record.place}: field 'output.provenance' is {type(found).__name__}, expected list")
    return [{"title": Record(entry, f"{record.place}, output.provenance").texts("title", [])} for entry in entries]


def _records(paths: Iterable[Path]) -> Iterator[Record]:
    for path in paths:
        for number, values in read_jsonl(path):
            yield Record(values, f"{path}, line {number}")
