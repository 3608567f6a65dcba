"""Mine negatives: collect a miner's candidates for each question of a split, and keep the irrelevant ones.

A miner is a module with `candidates(question, article, known, wanted, generator)`, which returns passage rows, the most
useful first, at most `wanted` or all it has. Those that contain answers are removed here. To add a miner, register its
module in `MINERS`; a miner that reads an experiment's run is named after both, such as `model.minilm_zs_none_avg`.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_from_disk

from vlret.console import progress, say
from vlret.data.answers import PreprocessedPassages, find_relevant
from vlret.data.tables import article_of
from vlret.files import InputError, atomic
from vlret.negatives import Known, article, bm25, image, model, random, same_type
from vlret.runs import read_qrels, read_run
from vlret.settings import Matching

MINERS = {
    "bm25": bm25,
    "article": article,
    "random": random,
    "same-type": same_type,
    "image": image,
    "model": model,
}


def mine(
    miner: str,
    split: Literal["train", "validation", "test"],
    questions: Path,
    passages: Path,
    normalised: Path,
    qrels: Path,
    run: Path | None,
    articles: Path | None,
    depth: int,
    seed: int,
    out: Path,
    matching: Matching = "meerqat",
) -> None:
    """Mine negatives to a Parquet table: `question` (id), `passages` and `relevant` (lists of int32), per question.

    `passages` are at most `depth` distinct passages, not relevant by `qrels` and without an answer, from any article.
    `relevant` are those of a run's first `depth` with the original answer, best first (the positives of cvlp and
    meerqat); empty for a miner without a run. Passages with only an alternative answer are irrelevant in cvlp, but here
    in neither list. Random draws depend only on the seed and the question's position in the split.

    Parameters
    ----------
    miner
        `bm25`, `article`, `random`, `same-type`, `image.EXPERIMENT` or `model.EXPERIMENT`.
    split
        The split to mine for.
    questions, passages
        The dataset's tables.
    normalised
        `vlret.data.relevance.normalise` of `passages`.
    qrels
        Judgements of the split's questions.
    run
        The split's run; needed by the miners `bm25`, `image` and `model`.
    articles
        The table of articles; the miner `same-type` needs its column `type`.
    depth
        The maximum number of passages per question, and of those read from the run.
    seed
        The random seed.
    out
        The file to write.
    matching
        How answers are matched, see `vlret.data.answers`.

    Raises
    ------
    InputError
        If the miner is unknown or lacks its run or types, the run or qrels do not fit the passages, or the qrels lack a
        question.
    """
    asked = load_from_disk(str(questions))[split].select_columns(["id", "article", "output"])
    module, known = _miner(miner), _known(miner, passages, run, articles)
    texts = PreprocessedPassages.open(normalised)
    if len(texts) != len(known.articles):
        raise InputError(
            f"{normalised}: {len(texts)} passages, but {len(known.articles)} in {passages}; normalise again"
        )
    judged = read_qrels(qrels)
    mined: dict[str, tuple[np.ndarray, list[int]]] = {}
    for place, row in enumerate(progress(asked, len(asked), "question", f"{miner} negatives, {split}")):
        question, output = row["id"], row["output"]
        if question not in judged:
            raise InputError(f"{qrels}: question {question} of split {split} is not judged")
        linked, generator = sorted(judged[question]), np.random.default_rng([seed, place])
        ranked = known.run[question].passages.tolist() if known.run and question in known.run else []
        for rows, source in ((linked, qrels), (ranked, run)):
            if max(rows, default=0) >= len(texts):
                raise InputError(f"{source}: question {question} has a passage beyond the {len(texts)}")
        # Half as many extra, as some may turn out to contain an answer.
        wanted = depth + len(linked) + depth // 2
        found = module.candidates(question, row["article"], known, wanted, generator)
        answers = output["original_answer"] or "", output["answer"]
        holding = find_relevant(found.tolist(), *answers, texts, matching)[1]
        kept = found[~np.isin(found, [*linked, *holding])][:depth]
        mined[question] = kept, find_relevant(ranked[:depth], *answers, texts, matching)[0]
    empty = sum(not len(kept) for kept, _ in mined.values())
    say(f"{miner} negatives, {split}: {len(mined)} questions, {empty} without any")
    _write(out, mined)


def _miner(name: str):
    """A miner's module."""
    kind = name.partition(".")[0]
    if kind not in MINERS:
        raise InputError(f"config, negatives: unknown miner {kind!r}; known are {', '.join(MINERS)}")
    return MINERS[kind]


def _known(miner: str, passages: Path, run: Path | None, articles: Path | None) -> Known:
    """The inputs of a miner."""
    module = _miner(miner)
    if run is None and getattr(module, "NEEDS_RUN", False):
        raise InputError(f"miner {miner} needs a run: give --run")
    if articles is None and getattr(module, "NEEDS_TYPES", False):
        raise InputError(f"miner {miner} needs the table of articles: give --articles")
    owners = article_of(passages)
    types = _types(articles) if getattr(module, "NEEDS_TYPES", False) else None
    return Known(owners, None if run is None else read_run(run), types)


def _types(articles: Path) -> np.ndarray:
    """A number for each article's type, -1 without one, `[articles]`; `InputError` if no article has one."""
    table = load_from_disk(str(articles))
    names = table["type"] if "type" in table.column_names else []
    numbers: dict[str, int] = {}
    types = np.array([numbers.setdefault(name, len(numbers)) if name else -1 for name in names], dtype=np.int32)
    if not numbers:
        raise InputError(
            f"{articles}: no article has a type (field 'type' of the knowledge base's records), as miner same-type "
            "needs; add it there, or remove the miner from training.negatives"
        )
    return types


def read(path: Path, column: str = "passages") -> dict[str, np.ndarray]:
    """One column of `mine`'s table: passage rows int32 for each question, at most `depth`, best first."""
    try:
        table = pq.read_table(path, columns=["question", column])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    rows = (scalar.values.to_numpy() for scalar in table[column])
    return dict(zip(table["question"].to_pylist(), rows, strict=True))


def _write(out: Path, mined: dict[str, tuple[np.ndarray, list[int]]]) -> None:
    columns = {"question": pa.array(list(mined), pa.string())}
    for place, name in enumerate(("passages", "relevant")):
        lists = [np.asarray(rows[place], dtype=np.int32) for rows in mined.values()]
        columns[name] = pa.array(lists, type=pa.list_(pa.int32()))
    with atomic(out) as aside:
        pq.write_table(pa.table(columns), aside)
