"""KILT's TriviaQA, which names its questions by id, joined with TriviaQA, which has their words."""

from collections.abc import Mapping
from pathlib import Path

from vlret.console import say
from vlret.data.questions import read_output
from vlret.data.records import Problems, Record, RecordError, Unique, read_records
from vlret.files import whole, write_json, write_jsonl

PROBLEMS = ("no question", "malformed", "repeated")


def join(
    train: Path, validation: Path, trivia_train: Path, trivia_validation: Path, limits: dict, out: Path, report: Path
) -> None:
    """Write `train.jsonl`, `validation.jsonl` and `test.jsonl` to the folder `out`, in ViQuAE's layout without images.

    KILT keeps the answers of its test questions to itself, so that every second question of its validation is tested
    on. The original answer is TriviaQA's `answer.value`; answers and provenance are KILT's (meerqat's
    `map_kilt_triviaqa`).

    Parameters
    ----------
    train, validation
        KILT's records: `id`, `output`.
    trivia_train, trivia_validation
        `unfiltered.nocontext`: `question_id`, `question`, `answer.value`.
    limits
        Most records that are `malformed`, `repeated`, or have `no question`: TriviaQA lacks their id.

    Raises
    ------
    InputError
        For more problems than allowed and for broken files.
    """
    splits, counts = {}, {}
    for split, kilt, trivia in (("train", train, trivia_train), ("validation", validation, trivia_validation)):
        problems, ids, splits[split] = Problems(PROBLEMS, limits), Unique("id"), []
        words = _words(trivia)
        for record in read_records([kilt]):
            try:
                row = _joined(record, words, trivia)
                ids.add(row["id"], record)
                splits[split].append(row)
            except RecordError as error:
                problems.leave_out(error)
        counts[split] = {"questions": len(splits[split]), **problems.report()}
        say(f"{split}: {len(splits[split])} questions: {problems}")
    splits["test"], splits["validation"] = splits["validation"][1::2], splits["validation"][::2]
    with whole(out) as aside:
        for split, records in splits.items():
            write_jsonl(aside / f"{split}.jsonl", records)
    write_json(report, counts)


def _words(path: Path) -> dict[str, tuple[str, str]]:
    """Id -> question and answer."""
    found = {}
    for record in read_records([path]):
        found[record.text("question_id")] = record.text("question"), record.get("answer.value", str, "")
    return found


def _joined(record: Record, words: Mapping[str, tuple[str, str]], trivia: Path) -> dict:
    own = record.text("id")
    if own not in words:
        raise RecordError(f"{record.place}: field 'id' is {own}, and {trivia} has no such question", "no question")
    asked, answer = words[own]
    output = read_output(record)
    return {"id": own, "input": asked, "output": {**output, "original_answer": answer}}
