"""KILT's TriviaQA, which has only ids of questions, joined with TriviaQA, which has their text."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from vlret.console import say
from vlret.data.own import known_as
from vlret.data.questions import read_output
from vlret.data.records import Problems, Record, RecordError, Unique, read_records, taken
from vlret.files import atomic, write_json, write_jsonl

NOTHING = {"answer": [], "provenance": []}
PROBLEMS = ("no question", "malformed", "repeated")


def join(
    kilt_train: Path,
    kilt_validation: Path,
    kilt_test: Path,
    trivia_train: Path,
    trivia_validation: Path,
    trivia_test: Path,
    limits: Mapping[str, int],
    out: Path,
    report: Path,
) -> None:
    """Write `train.jsonl`, `validation.jsonl` and `test.jsonl` to the folder `out`, in ViQuAE's layout without images.

    The original answer is TriviaQA's `answer.value`; answers and provenance are KILT's (meerqat's `map_kilt_triviaqa`).
    KILT does not publish the answers of its test questions: if none has any, every second validation question becomes
    a test question instead.

    Parameters
    ----------
    kilt_train, kilt_validation, kilt_test
        `id`, `output`.
    trivia_train, trivia_validation, trivia_test
        `unfiltered.nocontext`: `question_id`, `question`, `answer.value`.
    limits
        Maximum records that are `malformed`, `repeated`, or have `no question`: TriviaQA lacks their id.
    out
        The folder to write.
    report
        JSON: count and examples of each kind.

    Raises
    ------
    InputError
        For more problems than allowed, and for broken files.
    """
    pairs = {"train": (kilt_train, trivia_train), "validation": (kilt_validation, trivia_validation)}
    pairs["test"] = kilt_test, trivia_test
    splits, counts = {}, {}
    for split, (kilt, trivia) in pairs.items():
        problems = Problems(PROBLEMS, limits)
        splits[split] = _split(kilt, trivia, problems)
        counts[split] = {"questions": len(splits[split]), **problems.report()}
        say(f"{split}: {len(splits[split])} questions: {problems}")
    if not any(record["output"]["provenance"] for record in splits["test"]):
        splits["test"], splits["validation"] = splits["validation"][1::2], splits["validation"][::2]
        say("test: no answers are published; every second validation question is used instead")
    with atomic(out) as aside:
        for split, records in splits.items():
            write_jsonl(aside / f"{split}.jsonl", records)
    write_json(report, counts)


def _split(kilt: Path, trivia: Path, problems: Problems) -> list[dict]:
    words, ids, rows = _words(trivia, problems), Unique("id"), []
    for record in read_records([kilt]):
        try:
            row = taken(partial(_joined, words=words, trivia=trivia), record)
            ids.add(row["id"], record)
            rows.append(row)
        except RecordError as error:
            problems.note(error)
    return rows


def _words(path: Path, problems: Problems) -> dict[str, tuple[str, str]]:
    """Id -> question and answer."""
    found = {}
    for record in read_records([path]):
        try:
            identifier, *texts = taken(_asked, record)
            found[identifier] = tuple(texts)
        except RecordError as error:
            problems.note(error)
    return found


def _asked(record: Record) -> tuple[str, str, str]:
    return record.text("question_id"), record.text("question"), record.get("answer.value", str, "")


def _joined(record: Record, words: Mapping[str, tuple[str, str]], trivia: Path) -> dict:
    own = record.word("id")
    if own not in words:
        raise RecordError(
            f"{record.place}: field 'id' is {own}, and {known_as(trivia)} has no such question", "no question"
        )
    asked, answer = words[own]
    output = read_output(record) if record.get("output", object, None) else NOTHING
    return {"id": own, "input": asked, "output": {**output, "original_answer": answer}}
