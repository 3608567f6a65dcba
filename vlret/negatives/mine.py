"""Mining: ask one miner for candidates to each question of a split, and keep those that are irrelevant.

A miner is a module with `candidates(question, article, known, wanted, generator)`: passage rows, the most useful
first, `wanted` of them or fewer, or all it has. They may hold relevant passages: those are taken out here, once for
all miners. A new miner is such a module and its name in `MINERS`.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_from_disk

from vlret.console import progress, say
from vlret.files import InputError, whole
from vlret.negatives import Known, article, bm25, random
from vlret.runs import read_qrels, read_run

MINERS = {"bm25": bm25, "article": article, "random": random}


def mine(
    miner: str,
    split: str,
    questions: Path,
    passages: Path,
    qrels: Path,
    run: Path | None,
    depth: int,
    seed: int,
    out: Path,
) -> None:
    """Write a Parquet table of `question` (id) and `passages` (list of int32, at most `depth`), a row a question.

    No list holds a relevant passage, or one passage twice. What a question draws depends on the seed and its place
    in the split alone. Raises `InputError` for an unknown miner, one that lacks its run, a run or qrels that do not
    fit the passages, and a question that the qrels do not judge.
    """
    if miner not in MINERS:
        raise InputError(f"config, negatives: no miner is called {miner!r}; there are {', '.join(MINERS)}")
    if run is None and getattr(MINERS[miner], "NEEDS_RUN", False):
        raise InputError(f"the negatives of miner {miner} come from a run: name one")
    asked = load_from_disk(str(questions))[split].select_columns(["id", "article"])
    articles = load_from_disk(str(passages)).select_columns(["article"]).with_format("numpy")[:]["article"]
    known = Known(articles, None if run is None else read_run(run))
    judged = read_qrels(qrels)
    mined: dict[str, np.ndarray] = {}
    for place, row in enumerate(progress(asked, len(asked), "question", f"{miner} negatives, {split}")):
        question = row["id"]
        if question not in judged:
            raise InputError(f"{qrels}: question {question} of split {split} is not judged")
        relevant = sorted(judged[question])
        generator = np.random.default_rng([seed, place])
        found = MINERS[miner].candidates(question, row["article"], known, depth + len(relevant), generator)
        mined[question] = found[~np.isin(found, relevant)][:depth]
        for rows, source in ((relevant, qrels), (found, run)):
            if max(rows, default=0) >= len(articles):
                raise InputError(f"{source}: question {question} has a passage beyond the {len(articles)}")
    bare = sum(not len(found) for found in mined.values())
    say(f"{miner} negatives, {split}: {len(mined)} questions, {bare} without any")
    _write(out, mined)


def read(path: Path) -> dict[str, np.ndarray]:
    """Negatives as mined: passage rows `[at most depth]` int32 for each question, best first."""
    try:
        table = pq.read_table(path, columns=["question", "passages"])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    rows = (scalar.values.to_numpy() for scalar in table["passages"])
    return dict(zip(table["question"].to_pylist(), rows, strict=True))


def _write(out: Path, mined: dict[str, np.ndarray]) -> None:
    lists = pa.array([rows.astype(np.int32) for rows in mined.values()], type=pa.list_(pa.int32()))
    with whole(out) as aside:
        pq.write_table(pa.table({"question": pa.array(list(mined), pa.string()), "passages": lists}), aside)
