"""Dense search: exact inner products, ties by passage row, exactly `k` passages."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vlret.console import progress
from vlret.data.tables import all_questions
from vlret.digests import digests
from vlret.files import InputError, read_json, write_json
from vlret.locks import locked
from vlret.retrieval import exact
from vlret.retrieval.index import Index
from vlret.retrieval.units import Units, has_vector
from vlret.retrieval.vectors import DESCRIPTION, Vectors, sampled
from vlret.runs import Ranking, write_run
from vlret.snapshot import Snapshot

BATCH = 256
PROPOSED = 2  # units proposed by an index per returned passage
SECONDS = 60  # between saved states of an exact search
MEASURED = 256  # questions for comparing an index with exact search


def search(
    index: Path | None,
    parameters: str | None,
    embeddings: Sequence[Path],
    questions_embeddings: Path,
    questions: Path,
    passages: Path,
    k: int,
    seed: int,
    tag: str,
    out: Path,
    report: Path,
) -> None:
    """Search for the `k` best passages of all questions and write their run.

    Search is exact without an index. An index only proposes units; their scores are the exact inner products with the
    vectors in `embeddings`. If units are articles, each is replaced by its passages, in order and with its
    score (as in meerqat's `map_indices`, which may exceed `k` by up to one article). A question whose vector is NaN has
    an empty ranking.

    Parameters
    ----------
    index
        A FAISS index file, or None.
    parameters
        Search parameters of the index, such as `nprobe=16`, if any.
    embeddings
        The shards that `vlret.retrieval.embed.embed_passages` made, in order.
    questions_embeddings
        The question vectors, `.npy`.
    questions, passages
        The tables.
    k
        Passages per question.
    seed
        Seed for sampling the questions to measure `recall@{k}`.
    tag
        The name of the run.
    out
        The run.
    report
        JSON: `exact`; `recall@{k}`, the share of the exact top `k` (ties included) that was found; the number of
        questions it was measured on; `encoded`, the precision in which the model was `trained`, and the vectors were
        computed and `stored`; and `stored`, what storing costs (`stored_recall`).

    Raises
    ------
    InputError
        If the index, the vectors and the tables do not fit each other, or the index with these parameters proposes
        fewer than `k` passages for a question although there are more.
    """
    units, vectors = Units.read(embeddings, passages), Vectors.read(questions_embeddings)
    present = np.flatnonzero(has_vector(vectors))
    identifiers = all_questions(questions)["id"][:]
    if len(identifiers) != len(vectors):
        raise InputError(f"{questions_embeddings}: {len(vectors)} vectors, but {len(identifiers)} questions")
    proposer = None if index is None else Index(index, parameters or "")
    _check_fit(index, proposer, units, vectors)
    asked = vectors.rows(present)
    with locked(out.parent / f".{out.name}.lock"):
        snapshot = Snapshot(
            out.parent / f"{out.name}.unfinished", partial(_known, embeddings, vectors.path, k), SECONDS
        )
        rankings = find(proposer, units, asked, k) if proposer else exact.search(units, asked, k, snapshot)
        snapshot.remove()
    run = {identifier: Ranking(np.empty(0, np.int64), np.empty(0)) for identifier in identifiers}
    run.update(zip((identifiers[row] for row in present), rankings, strict=True))
    if proposer is None:
        found = {"exact": True, f"recall@{k}": 1.0, "questions": len(present)}
    else:
        measured = np.sort(np.random.default_rng(seed).permutation(len(present))[:MEASURED])
        share = recall([rankings[row] for row in measured], exact.search(units, asked[measured], k))
        found = {"exact": False, "parameters": parameters or "", f"recall@{k}": share, "questions": len(measured)}
    known = read_json(embeddings[0] / DESCRIPTION)
    found["encoded"] = {key: known.get(key) for key in ("trained", "precision")} | {"stored": str(units.vectors.dtype)}
    found |= {"stored": stored_recall(embeddings, units.vectors, asked[:MEASURED], k)}
    write_run(out, run, tag)
    write_json(report, found)


def _known(embeddings: Sequence[Path], questions: Path, k: int) -> tuple[dict, dict[str, str]]:
    """The settings and inputs of an unfinished exact search."""
    return {"k": k}, digests({path.name: path for path in (questions, *embeddings)})


def _check_fit(index: Path | None, proposer: Index | None, units: Units, vectors: Vectors) -> None:
    dims = {one.path: one.dim for one in (vectors, units.vectors)} | ({index: proposer.dim} if proposer else {})
    if len(set(dims.values())) > 1:
        raise InputError(
            f"{', '.join(map(str, dims))} have {', '.join(map(str, dims.values()))} dimensions; embed again"
        )
    if proposer and proposer.rows.max(initial=-1) >= len(units.vectors):
        raise InputError(
            f"{index}: vector {proposer.rows.max()}, but {len(units.vectors)} in {units.vectors.path}; index again"
        )


def find(index: Index, units: Units, questions: np.ndarray, k: int) -> list[Ranking]:
    """The `k` best passages for each of `questions` `[questions, dim]` among the units proposed by an index.

    Requests more units while they have fewer than `k` passages; `InputError` if the index proposes no more although
    there are more.
    """
    rankings: list[Ranking] = []
    batches = range(0, len(questions), BATCH)
    for start in progress(batches, len(batches), f" batches of {BATCH}", "search"):
        batch = questions[start : start + BATCH]
        ranked: dict[int, Ranking] = {}
        left, depth = np.arange(len(batch)), min(PROPOSED * k, index.deepest)
        while len(left):
            for question, proposed in zip(left, index.propose(batch[left], depth), strict=True):
                candidates = proposed[proposed >= 0]
                few = units.counts(candidates).sum() < k
                if few and len(candidates) < depth:
                    problem = f"only {len(candidates)} of {len(index.rows)} vectors are proposed"
                    raise InputError(
                        f"retrieval.parameters: {index.parameters!r}: {problem} for a question, too few for {k} "
                        "passages; raise nprobe or efSearch, or use another retrieval.index"
                    )
                if not few or depth == index.deepest:
                    ranked[question] = units.rank(batch[question], candidates, k)
            left, depth = np.setdiff1d(left, list(ranked)), min(4 * depth, index.deepest)
        rankings += [ranked[question] for question in range(len(batch))]
    return rankings


def stored_recall(shards: Sequence[Path], vectors: Vectors, questions: np.ndarray, k: int) -> dict[str, object]:
    """How well stored vectors rank a sample of units, against the vectors as they were encoded.

    The `dtype` in which they are stored, the number of `units` in the sample, and `recall@{k}`: the mean share of the
    best `k` by encoded vectors among the best `k` by stored ones. Among more units, more of them are nearly tied.
    """
    rows, encoded = sampled(shards)
    k = min(k, len(rows))
    best, kept = (_best(questions @ np.nan_to_num(each).T, k) for each in (encoded, vectors.rows(rows)))
    shares = [len(np.intersect1d(*pair)) / k for pair in zip(best, kept, strict=True)]
    return {"dtype": str(vectors.dtype), "units": len(rows), f"recall@{k}": float(np.mean(shares)) if shares else 1.0}


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """The columns of the `k` highest scores of each row, in any order."""
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def recall(found: list[Ranking], best: list[Ranking]) -> float:
    """The mean share of each exact ranking that was found; passages that tie with its last one count too."""
    shares = [
        np.count_nonzero(one.scores >= all_.scores[-1]) / len(all_.scores)
        for one, all_ in zip(found, best, strict=True)
        if len(all_.scores)
    ]
    return float(np.mean(shares)) if shares else 1.0
