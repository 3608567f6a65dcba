"""Which passages answer a question: those of the linked article that contain an answer.

The definitions are meerqat's (`answer_preprocess`, `find_relevant`, as ViQuAE and cvlp use them), with one difference:
an answer that normalises to nothing (such as `the` or `?`) matches no passage, where there it matches every one.
"""

import re
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from datasets import load_from_disk

from vlret.console import say
from vlret.files import InputError, whole, write_json
from vlret.runs import write_qrels

WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")
EXAMPLES = 10


def preprocess(text: str) -> str:
    """Lower case, no ASCII punctuation (`new-york` becomes `newyork`), no `a`, `an`, `the`, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def contains(preprocessed: str, answer: str) -> bool:
    """Whether an answer stands in a preprocessed text as whole words; `answer` is preprocessed here."""
    return finder(answer)(preprocessed)


def find_relevant(
    retrieved: Iterable[int], original_answer: str, answers: list[str], texts: Mapping[int, str] | list[str]
) -> tuple[list[int], list[int]]:
    """The passages among `retrieved` that hold the original answer, and those that hold any answer; order is kept.

    `texts[row]` is the text of passage `row`, as published.
    """
    original = finder(original_answer)
    finders = [original, *map(finder, answers)]
    with_original, relevant = [], []
    for row in retrieved:
        text = preprocess(texts[row])
        if original(text):
            with_original.append(row)
        if any(find(text) for find in finders):
            relevant.append(row)
    return with_original, relevant


def judge(questions: Path, passages: Path, out: Path, report: Path) -> None:
    """Write `out/{split}.trec` with the relevant passages of every question of a questions dataset.

    Relevant is a passage of the linked article (column `article`) whose text, without the title, contains any answer.
    `report` counts, by split, questions without an answer and without a relevant passage, with examples; such
    questions stay in the qrels. Raises `InputError` when no question of a split has a
    relevant passage.
    """
    splits = load_from_disk(str(questions))
    knowledge = load_from_disk(str(passages))
    article_of = np.asarray(knowledge.with_format("numpy")["article"])
    counts = {}
    with whole(out) as aside:
        aside.mkdir()
        for split, records in splits.items():
            qrels = _qrels(records, article_of, knowledge)
            if records and not any(qrels.values()):
                raise InputError(f"{questions}: no question of {split} has a relevant passage; check answers and links")
            write_qrels(aside / f"{split}.trec", qrels)
            counts[split] = _count(records, qrels)
            say(
                f"{split}: {len(qrels)} questions, {counts[split]['no answer']['count']} without answer, "
                f"{counts[split]['no relevant passage']['count']} without relevant passage"
            )
    write_json(report, counts)


def _qrels(records: Iterable[dict], article_of: np.ndarray, knowledge: object) -> dict[str, list[int]]:
    qrels = {}
    for record in records:
        first, end = np.searchsorted(article_of, [record["article"], record["article"] + 1]).tolist()
        texts = dict(zip(range(first, end), knowledge[first:end]["text"], strict=True))
        output = record["output"]
        qrels[record["id"]] = find_relevant(texts, output["original_answer"] or "", output["answer"], texts)[1]
    return qrels


def _count(records: Iterable[dict], qrels: dict[str, list[int]]) -> dict:
    unanswered = [record["id"] for record in records if not has_answer(record["output"])]
    irrelevant = [identifier for identifier, relevant in qrels.items() if not relevant]
    return {
        "questions": len(qrels),
        "relevant passages": sum(map(len, qrels.values())),
        "no answer": {"count": len(unanswered), "examples": unanswered[:EXAMPLES]},
        "no relevant passage": {"count": len(irrelevant), "examples": irrelevant[:EXAMPLES]},
    }


def has_answer(output: dict) -> bool:
    """Whether any answer of a question is left after normalisation."""
    return any(preprocess(answer) for answer in [output["original_answer"] or "", *output["answer"]])


def finder(answer: str) -> Callable[[str], bool]:
    """What `contains` does, for one answer and many preprocessed texts."""
    wanted = preprocess(answer)
    if not wanted:
        return lambda text: False
    pattern = re.compile(rf"\b{re.escape(wanted)}\b")
    return lambda text: pattern.search(text) is not None
