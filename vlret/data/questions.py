"""Questions as published (ViQuAE's JSON lines) to Arrow, every record checked and linked to its article."""

from pathlib import Path

from datasets import Features, List, Value, load_from_disk

from vlret.console import say
from vlret.data.answers import has_answer
from vlret.data.records import Problems, Record, Unique, read_records
from vlret.data.tables import write_splits
from vlret.files import InputError, write_json

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
QUESTION_PROBLEMS = ("no answer",)


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
        for record in read_records([path]):
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
