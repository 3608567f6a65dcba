"""Dense search: exact inner products, ties by passage row, exactly `k` passages."""

from pathlib import Path

import numpy as np

from vlret.console import progress
from vlret.data.tables import all_questions
from vlret.files import InputError, write_json
from vlret.retrieval import exact
from vlret.retrieval.index import Index
from vlret.retrieval.units import Units, has_vector, read_vectors
from vlret.runs import Ranking, write_run

BATCH = 256
PROPOSED = 2  # units proposed by an index per returned passage
MEASURED = 256  # questions for comparing an index with exact search


def search(
    index: Path | None,
    parameters: str | None,
    embeddings: Path,
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
    vectors in the folder `embeddings`. If units are articles, each is replaced by its passages, in order and with its
    score (as in meerqat's `map_indices`, which may exceed `k` by up to one article). A question whose vector is NaN has
    an empty ranking.

    Parameters
    ----------
    index
        A FAISS index file, or None.
    parameters
        Search parameters of the index, such as `nprobe=16`, if any.
    embeddings
        The output of `vlret.retrieval.embed.embed`.
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
        JSON: `exact`; `recall@{k}`, the share of the exact top `k` (ties included) that was found; and the number of
        questions it was measured on.

    Raises
    ------
    InputError
        If the index, the vectors and the tables do not fit each other, or the index with these parameters proposes
        fewer than `k` passages for a question although there are more.
    """
    units, vectors = Units.read(embeddings, passages), read_vectors(questions_embeddings)
    present = np.flatnonzero(has_vector(vectors, questions_embeddings))
    identifiers = all_questions(questions)["id"]
    if len(identifiers) != len(vectors):
        raise InputError(f"{questions_embeddings}: {len(vectors)} vectors, but {len(identifiers)} questions")
    proposer = None if index is None else Index(index, parameters or "")
    _check_fit(index, proposer, units, vectors, questions_embeddings)
    asked = np.ascontiguousarray(vectors[present], dtype=np.float32)
    rankings = exact.search(units, asked, k) if proposer is None else find(proposer, units, asked, k)
    run = {identifier: Ranking(np.empty(0, np.int64), np.empty(0)) for identifier in identifiers}
    run.update(zip((identifiers[row] for row in present), rankings, strict=True))
    if proposer is None:
        found = {"exact": True, f"recall@{k}": 1.0, "questions": len(present)}
    else:
        measured = np.sort(np.random.default_rng(seed).permutation(len(present))[:MEASURED])
        share = recall([rankings[row] for row in measured], exact.search(units, asked[measured], k))
        found = {"exact": False, "parameters": parameters or "", f"recall@{k}": share, "questions": len(measured)}
    write_run(out, run, tag)
    write_json(report, found)


def _check_fit(index: Path | None, proposer: Index | None, units: Units, vectors: np.ndarray, path: Path) -> None:
    dims = {path: vectors.shape[1], units.path: units.vectors.shape[1]} | ({index: proposer.dim} if proposer else {})
    if len(set(dims.values())) > 1:
        raise InputError(
            f"{', '.join(map(str, dims))} have {', '.join(map(str, dims.values()))} dimensions; embed again"
        )
    if proposer and proposer.rows.max(initial=-1) >= len(units.vectors):
        raise InputError(
            f"{index}: vector {proposer.rows.max()}, but {len(units.vectors)} in {units.path}; index again"
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


def recall(found: list[Ranking], best: list[Ranking]) -> float:
    """The mean share of each exact ranking that was found; passages that tie with its last one count too."""
    shares = [
        np.count_nonzero(one.scores >= all_.scores[-1]) / len(all_.scores)
        for one, all_ in zip(found, best, strict=True)
        if len(all_.scores)
    ]
    return float(np.mean(shares)) if shares else 1.0
