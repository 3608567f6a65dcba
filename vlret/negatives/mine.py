"""Mining: ask one miner for candidates to each question of a split, and keep those that are irrelevant.

A miner is a module with `candidates(question, article, known, wanted, generator)`: passage rows, the most useful
first, `wanted` of them or fewer, or all it has. They may hold answers: what does is taken out here, once for all
miners. A new miner is such a module and its name in `MINERS`; one that reads an experiment's run is called by both,
such as `model.minilm_zs_none_avg`.
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
from vlret.files import InputError, whole
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
    """Write a Parquet table of `question` (id), `passages` and `relevant` (lists of int32), a row a question.

    `passages` are at most `depth`, none relevant by `qrels`, none that holds an answer, of whatever article, and none
    twice. `relevant` are those of a run's first `depth` that hold the original answer, best first (cvlp's and meerqat's
    positives); empty for a miner without a run. cvlp calls irrelevant what lacks the original answer alone; here what
    holds another answer is in neither list. What a question draws depends on the seed and its place in the split alone.

    Parameters
    ----------
    miner
        `bm25`, `article`, `random`, `same-type`, `image.EXPERIMENT` or `model.EXPERIMENT`.
    split
        The questions that passages are mined for.
    questions, passages
        The dataset's tables.
    normalised
        `vlret.data.relevance.normalise` of `passages`.
    qrels
        Judgements of the split's questions.
    run
        The run of the split, which the miners `bm25`, `image` and `model` read.
    articles
        The table of articles, whose column `type` the miner `same-type` reads.
    depth
        The most passages of a question, and how many of the run's are looked at.
    seed
        Of all that is drawn.
    out
        The file to write.
    matching
        How an answer stands in a text, see `vlret.data.answers`.

    Raises
    ------
    InputError
        For an unknown miner, one that lacks its run or types, a run or qrels that do not fit the passages, and a
        question that the qrels do not judge.
    """
    asked = load_from_disk(str(questions))[split].select_columns(["id", "article", "output"])
    module, known = _miner(miner), _known(miner, passages, run, articles)
    texts = PreprocessedPassages.open(normalised)
    if len(texts) != len(known.articles):
        raise InputError(f"{normalised}: {len(texts)} passages, but {len(known.articles)} in {passages}; make it again")
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
        # Half as many again, because how many of them hold an answer shows only later.
        wanted = depth + len(linked) + depth // 2
        found = module.candidates(question, row["article"], known, wanted, generator)
        answers = output["original_answer"] or "", output["answer"]
        holding = find_relevant(found.tolist(), *answers, texts, matching)[1]
        kept = found[~np.isin(found, [*linked, *holding])][:depth]
        mined[question] = kept, find_relevant(ranked[:depth], *answers, texts, matching)[0]
    bare = sum(not len(kept) for kept, _ in mined.values())
    say(f"{miner} negatives, {split}: {len(mined)} questions, {bare} without any")
    _write(out, mined)


def _miner(name: str):
    """The module behind a miner's name."""
    kind = name.partition(".")[0]
    if kind not in MINERS:
        raise InputError(f"config, negatives: no miner is called {kind!r}; there are {', '.join(MINERS)}")
    return MINERS[kind]


def _known(miner: str, passages: Path, run: Path | None, articles: Path | None) -> Known:
    """What one miner draws from."""
    module = _miner(miner)
    if run is None and getattr(module, "NEEDS_RUN", False):
        raise InputError(f"the negatives of miner {miner} come from a run: name one")
    if articles is None and getattr(module, "NEEDS_TYPES", False):
        raise InputError(f"miner {miner} needs the table of articles, whose types it reads: name it")
    owners = article_of(passages)
    types = _types(articles) if getattr(module, "NEEDS_TYPES", False) else None
    return Known(owners, None if run is None else read_run(run), types)


def _types(articles: Path) -> np.ndarray:
    """A number for each article's type, -1 where it has none, `[articles]`; `InputError` where no article has one."""
    table = load_from_disk(str(articles))
    names = table["type"] if "type" in table.column_names else []
    numbers: dict[str, int] = {}
    types = np.array([numbers.setdefault(name, len(numbers)) if name else -1 for name in names], dtype=np.int32)
    if not numbers:
        raise InputError(
            f"{articles}: no article has a type (field 'type' of the knowledge base's records), which miner same-type "
            "needs; add it there, or leave the miner out of training.negatives"
        )
    return types


def read(path: Path, column: str = "passages") -> dict[str, np.ndarray]:
    """One column of `mine`'s table: passage rows `[at most depth]` int32 for each question, best first."""
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
    with whole(out) as aside:
        pq.write_table(pa.table(columns), aside)
