"""Relevance judgements: static ones, before any run, and dynamic ones, of the passages that runs retrieved."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from datasets import Dataset, load_from_disk

from vlret.console import progress, say
from vlret.data.answers import PreprocessedPassages, find_relevant, has_answer
from vlret.data.questions import linked_rows, rows_by_title
from vlret.data.records import EXAMPLES
from vlret.data.tables import article_of, read_batches
from vlret.files import InputError, atomic, write_json, write_jsonl
from vlret.runs import read_run, write_qrels
from vlret.settings import Matching

INDICES = ("id", "original_answer_provenance_indices", "provenance_indices")
EVALUATED = ("validation", "test")  # what runs are evaluated on


def normalise(passages: Path, out: Path, titles: str = "") -> None:
    """Write the texts of a table of passages as `vlret.data.answers.PreprocessedPassages`.

    Parameters
    ----------
    passages
        The table of passages.
    out
        The folder to write.
    titles
        Separator of title and text, spaces added: meerqat looks for answers in `title [SEP] text`. If empty, titles are
        left out.
    """
    total = len(load_from_disk(str(passages)))

    def texts() -> Iterator[str]:
        for batch in read_batches(passages, ["title", "text"] if titles else ["text"]):
            parts = (column.to_pylist() for column in batch.columns)
            yield from map(f" {titles} ".join, zip(*parts, strict=True))

    with atomic(out) as aside:
        aside.mkdir()
        PreprocessedPassages.write(progress(texts(), total, "passage", "normalisation"), aside)


def judge(
    questions: Path,
    passages: Path,
    normalised: Path,
    out: Path,
    report: Path,
    link: Literal["wikidata", "provenance"] = "wikidata",
    articles: Path | None = None,
    matching: Matching = "meerqat",
) -> None:
    """Write static judgements of every question of a dataset to `out/{split}.trec` and `out/{split}.jsonl`.

    A passage of a linked article is relevant if its normalised text contains any answer. As in meerqat's datasets, the
    JSON lines have `provenance_indices`, the relevant passages, and `original_answer_provenance_indices`, those with
    the original answer.

    Parameters
    ----------
    questions, passages
        The dataset's tables.
    normalised
        The texts of the passages, as `normalise` writes them.
    out
        The folder to write.
    report
        By split, questions (with rows) without an answer or without a relevant passage; they stay in the qrels.
    link
        `wikidata`: the article of column `article`. `provenance`: all articles whose title is the first of an entry of
        `output.provenance`, the last of those with the same title (meerqat's `find_relevant_item`).
    articles
        The table of articles, required for `provenance`.
    matching
        How answers are matched, see `vlret.data.answers`.

    Raises
    ------
    InputError
        If no question of a split has a relevant passage, and for normalised texts of other passages.
    """
    if link == "provenance" and articles is None:
        raise InputError("link 'provenance' needs the table of articles")
    splits = load_from_disk(str(questions))
    owners = article_of(passages)
    texts = PreprocessedPassages.open(normalised)
    if len(texts) != len(owners):
        raise InputError(f"{normalised}: {len(texts)} passages, but {len(owners)} in {passages}; make it again")
    titles = rows_by_title(load_from_disk(str(articles))) if link == "provenance" else None
    linked = {}
    for records in splits.values():
        for question, rows in zip(records["id"], _linked(records, titles), strict=True):
            # With another dtype, searchsorted would copy the articles of all passages.
            wanted = np.asarray(rows, owners.dtype)
            firsts, ends = (np.searchsorted(owners, wanted, side).tolist() for side in ("left", "right"))
            linked[question] = list(chain.from_iterable(map(range, firsts, ends)))
    _write(splits, linked, texts, matching, out, report, f"{questions}: check answers and links", indices=True)


def _linked(records: Dataset, titles: Mapping[str, int] | None) -> Iterator[list[int]]:
    """The rows of each question's linked articles, by `titles` if given."""
    if titles is None:
        return ([row] for row in records["article"])
    return (linked_rows(output["provenance"], titles) for output in records["output"])


def pool(
    runs: list[Path], questions: Path, normalised: Path, out: Path, report: Path, matching: Matching = "meerqat"
) -> None:
    """Write dynamic judgements of the runs of one table to `out/validation.trec` and `out/test.trec`.

    A passage is relevant if any run ranks it for the question, at any rank, and its normalised text contains any
    answer, whatever its article (meerqat's `ir.search`, where each search adds to the same judgements). All runs are
    pooled, so that all are judged alike.

    Parameters
    ----------
    runs
        The runs of the table.
    questions
        The table of questions.
    normalised
        The texts of the passages, as `normalise` writes them.
    out
        The folder to write.
    report
        By split, questions without an answer or without a relevant passage, as in `judge`.
    matching
        How answers are matched, see `vlret.data.answers`.

    Raises
    ------
    InputError
        If no question of a split has a relevant passage, and for a run of other passages.
    """
    splits = load_from_disk(str(questions))
    splits = {split: splits[split] for split in EVALUATED}
    texts = PreprocessedPassages.open(normalised)
    pooled = {question: np.empty(0, np.int64) for records in splits.values() for question in records["id"]}
    for path in progress(runs, len(runs), "run", "pool"):
        for question, ranking in read_run(path).items():
            if ranking.passages.max(initial=0) >= len(texts):
                raise InputError(f"{path}: question {question} has a passage beyond the {len(texts)} of {normalised}")
            if question in pooled:
                pooled[question] = np.union1d(pooled[question], ranking.passages)
    _write(
        splits,
        {question: rows.tolist() for question, rows in pooled.items()},
        texts,
        matching,
        out,
        report,
        f"do the runs fit {questions}?",
    )


def _write(
    splits: Mapping[str, Dataset],
    candidates: Mapping[str, Sequence[int]],
    texts: PreprocessedPassages,
    matching: Matching,
    out: Path,
    report: Path,
    advice: str,
    indices: bool = False,
) -> None:
    """Judge the candidates of every question; write qrels, report and, if `indices`, meerqat's JSON lines."""
    counts = {}
    with atomic(out) as aside:
        aside.mkdir()
        for split, records in splits.items():
            found = {}
            for question, output in zip(records["id"], records["output"], strict=True):
                answers = output["original_answer"] or "", output["answer"]
                found[question] = find_relevant(candidates[question], *answers, texts, matching)
            qrels = {question: relevant for question, (_, relevant) in found.items()}
            if not any(qrels.values()):
                raise InputError(f"no question of {split} has a relevant passage; {advice}")
            write_qrels(aside / f"{split}.trec", qrels)
            if indices:
                rows = [dict(zip(INDICES, (question, *both), strict=True)) for question, both in found.items()]
                write_jsonl(aside / f"{split}.jsonl", rows)
            counts[split] = _count(records, qrels)
            say(
                f"{split}: {len(qrels)} questions, {counts[split]['no answer']['count']} without answer, "
                f"{counts[split]['no relevant passage']['count']} without relevant passage"
            )
    write_json(report, counts)


def _count(records: Dataset, qrels: dict[str, list[int]]) -> dict:
    unanswered = [row for row, output in enumerate(records["output"]) if not has_answer(output)]
    irrelevant = [row for row, relevant in enumerate(qrels.values()) if not relevant]
    return {
        "questions": len(qrels),
        "relevant passages": sum(map(len, qrels.values())),
        "no answer": _told(unanswered, records["id"]),
        "no relevant passage": _told(irrelevant, records["id"]),
    }


def _told(rows: list[int], ids: Sequence[str]) -> dict:
    return {"count": len(rows), "examples": [ids[row] for row in rows[:EXAMPLES]], "rows": rows}
