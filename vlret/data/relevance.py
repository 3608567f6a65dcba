"""Which passages answer a question: static judgements, before any run, and dynamic ones, of what runs retrieved."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import Dataset, load_from_disk

from vlret.console import progress, say
from vlret.data.answers import PreprocessedPassages, find_relevant, has_answer
from vlret.files import InputError, whole, write_json
from vlret.runs import read_run, write_qrels

EXAMPLES = 10
BATCH = 10_000  # passages read at a time
EVALUATED = ("validation", "test")  # what runs are evaluated on


def normalise(passages: Path, out: Path) -> None:
    """Write the texts of a passages dataset, without titles, as `vlret.data.answers.PreprocessedPassages`."""
    table = load_from_disk(str(passages)).select_columns(["text"])
    starts = progress(range(0, len(table), BATCH), -(-len(table) // BATCH), f" batches of {BATCH}", "normalisation")
    with whole(out) as aside:
        aside.mkdir()
        batches = (table[start : start + BATCH]["text"] for start in starts)
        PreprocessedPassages.write(chain.from_iterable(batches), aside)


def judge(questions: Path, passages: Path, normalised: Path, out: Path, report: Path) -> None:
    """Write the static judgements: `out/{split}.trec` with the relevant passages of every question of a dataset.

    Relevant is a passage of the linked article (column `article`) whose text, without the title, contains any answer.
    `normalised` is of `passages`. `report` counts, by split, questions without an answer and without a relevant
    passage, with examples; such questions stay in the qrels. Raises `InputError` when no question of a split has a
    relevant passage.
    """
    splits = load_from_disk(str(questions))
    article_of = load_from_disk(str(passages)).select_columns(["article"]).with_format("numpy")[:]["article"]
    texts = PreprocessedPassages.open(normalised)
    if len(texts) != len(article_of):
        raise InputError(f"{normalised}: {len(texts)} passages, but {len(article_of)} in {passages}; make it again")
    linked = {}
    for records in splits.values():
        firsts, ends = (np.searchsorted(article_of, records["article"], side).tolist() for side in ("left", "right"))
        linked.update(zip(records["id"], map(range, firsts, ends), strict=True))
    _write(splits, linked, texts, out, report, f"{questions}: check answers and links")


def pool(runs: list[Path], questions: Path, normalised: Path, out: Path, report: Path) -> None:
    """Write the dynamic judgements `out/validation.trec` and `out/test.trec` of the runs of one table.

    Relevant is a passage that any of the runs ranks for the question, however low, and whose text, without the title,
    contains any answer, whatever its article (meerqat's `ir.search`, where each search adds to the same judgements).
    All runs are pooled, so that all can be judged alike. `report` as `judge` has it. Raises `InputError` when no
    question of a split has a relevant passage, and for a run of other passages.
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
        out,
        report,
        f"do the runs fit {questions}?",
    )


def _write(
    splits: Mapping[str, Dataset],
    candidates: Mapping[str, Sequence[int]],
    texts: PreprocessedPassages,
    out: Path,
    report: Path,
    advice: str,
) -> None:
    """Judge the candidates of every question, and write qrels and report."""
    counts = {}
    with whole(out) as aside:
        aside.mkdir()
        for split, records in splits.items():
            qrels = {}
            for question, output in zip(records["id"], records["output"], strict=True):
                answers = output["original_answer"] or "", output["answer"]
                qrels[question] = find_relevant(candidates[question], *answers, texts)[1]
            if not any(qrels.values()):
                raise InputError(f"no question of {split} has a relevant passage; {advice}")
            write_qrels(aside / f"{split}.trec", qrels)
            counts[split] = _count(records, qrels)
            say(
                f"{split}: {len(qrels)} questions, {counts[split]['no answer']['count']} without answer, "
                f"{counts[split]['no relevant passage']['count']} without relevant passage"
            )
    write_json(report, counts)


def _count(records: Iterable[dict], qrels: dict[str, list[int]]) -> dict:
    unanswered = [record["id"] for record in records if not has_answer(record["output"])]
    irrelevant = [identifier for identifier, relevant in qrels.items() if not relevant]
    return {
        "questions": len(qrels),
        "relevant passages": sum(map(len, qrels.values())),
        "no answer": {"count": len(unanswered), "examples": unanswered[:EXAMPLES]},
        "no relevant passage": {"count": len(irrelevant), "examples": irrelevant[:EXAMPLES]},
    }
