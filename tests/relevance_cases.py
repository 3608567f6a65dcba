"""The stored cases of meerqat's relevance, and further ones of shapes that other stored data may have.

Of some answers nothing is left after normalisation, of some questions no answer; nothing or one passage is retrieved.
"""

import re
import string
from collections.abc import Iterator, Sequence

from parity import load

RELEVANCE = load("relevance")


def normal(text: str) -> str:
    """meerqat's `answer_preprocess` as it is written."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def original(retrieved: Sequence[int], original_answer: str, answers: Sequence[str]) -> tuple[list[int], list[int]]:
    """meerqat's `find_relevant` as it is written: an answer of which nothing is left stands wherever a word does."""
    texts = {row: normal(RELEVANCE["kb"][row]) for row in retrieved}

    def holds(row: int, answer: str) -> bool:
        return re.search(rf"\b{normal(answer)}\b", texts[row]) is not None

    first = [row for row in retrieved if holds(row, original_answer)]
    return first, [row for row in retrieved if any(holds(row, answer) for answer in (original_answer, *answers))]


def ours(retrieved: Sequence[int], original_answer: str, answers: Sequence[str]) -> tuple[list[int], list[int]]:
    """The same without the answers of which nothing is left, which is where this project differs."""
    kept = [answer for answer in answers if normal(answer)]
    if normal(original_answer):
        return original(retrieved, original_answer, kept)
    return [], original(retrieved, kept[0], kept)[1] if kept else []


def variants(case: dict) -> Iterator[dict]:
    """A case in other shapes, with what meerqat would find in them."""
    answer, answers, retrieved = case["original_answer"], case["answers"], case["retrieved"]
    for own, others, rows in (
        (answer, [*answers, "The"], retrieved),
        (answer, ["", *answers], retrieved),
        ("", answers, retrieved),
        ("?", [*answers, "a"], retrieved),
        ("", [], retrieved),
        (answer, answers, []),
        (answer, ["?"], retrieved[:1]),
        ("nowhere at all", [], retrieved),
    ):
        with_original, relevant = original(rows, own, others)
        shape = {"original_answer": own, "answers": others, "retrieved": rows}
        yield {**shape, "original_relevant": with_original, "relevant": relevant}
