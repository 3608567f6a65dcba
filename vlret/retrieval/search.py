"""From questions' vectors to a run: exact inner products, ties by passage row, exactly `k` passages."""

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
PROPOSED = 2  # units that an index proposes for each passage that is kept
MEASURED = 256  # questions on which an index is compared with exact search


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
    """Write the run of all questions, train, validation and test, with `k` passages each, or all there are.

    Search is exact without an index. An index proposes units, and their scores are the exact inner products with the
    vectors in the folder `embeddings`. Where the unit is the article, an article's passages follow in their order with
    its score (meerqat's `map_indices`, which gives up to one article more than `k`). A question whose vector is NaN
    finds nothing.

    Parameters
    ----------
    index
        File of a FAISS index, or None.
    parameters
        Of search in the index, such as `nprobe=16`, if any.
    embeddings
        What `vlret.retrieval.embed.embed` wrote.
    questions_embeddings
        The vectors of the questions, `.npy`.
    questions, passages
        The tables.
    k
        Passages kept a question.
    seed
        Of the questions that `recall@{k}` is measured on.
    tag
        The name of the run.
    out
        The run.
    report
        JSON: `exact`, and the share of the exact `k` passages, or of others as good, that were found, `recall@{k}`,
        with the number of questions that it was measured on.

    Raises
    ------
    InputError
        Where the index, the vectors and the tables do not fit together, and where the index by its parameters proposes
        fewer than `k` passages for a question although there are more.
    """
    units, vectors = Units.read(embeddings, passages), read_vectors(questions_embeddings)
    asked = np.flatnonzero(has_vector(vectors, questions_embeddings))
    identifiers = all_questions(questions)["id"]
    if len(identifiers) != len(vectors):
        raise InputError(f"{questions_embeddings}: {len(vectors)} vectors, but {len(identifiers)} questions")
    proposer = None if index is None else Index(index, parameters or "")
    _check_fit(index, proposer, units, vectors, questions_embeddings)
    asking = np.ascontiguousarray(vectors[asked], dtype=np.float32)
    rankings = exact.search(units, asking, k) if proposer is None else find(proposer, units, asking, k)
    run = {identifier: Ranking(np.empty(0, np.int64), np.empty(0)) for identifier in identifiers}
    run.update(zip((identifiers[row] for row in asked), rankings, strict=True))
    if proposer is None:
        found = {"exact": True, f"recall@{k}": 1.0, "questions": len(asked)}
    else:
        measured = np.sort(np.random.default_rng(seed).permutation(len(asked))[:MEASURED])
        share = recall([rankings[row] for row in measured], exact.search(units, asking[measured], k))
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
    """The `k` best passages for each of `questions` `[questions, dim]` of the units that an index proposes.

    It is asked for more where those have fewer than `k` passages; `InputError` where it proposes no more although there
    are more.
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
                    looked = f"only {len(candidates)} of {len(index.rows)} vectors are proposed"
                    raise InputError(
                        f"retrieval.parameters: {index.parameters!r}: {looked} for a question, too few for {k} "
                        "passages; raise nprobe or efSearch, or take another retrieval.index"
                    )
                if not few or depth == index.deepest:
                    ranked[question] = units.rank(batch[question], candidates, k)
            left, depth = np.setdiff1d(left, list(ranked)), min(4 * depth, index.deepest)
        rankings += [ranked[question] for question in range(len(batch))]
    return rankings


def recall(found: list[Ranking], best: list[Ranking]) -> float:
    """The mean share of each exact ranking that was found; a passage as good as its last counts as one of it."""
    shares = [
        np.count_nonzero(one.scores >= all_.scores[-1]) / len(all_.scores)
        for one, all_ in zip(found, best, strict=True)
        if len(all_.scores)
    ]
    return float(np.mean(shares)) if shares else 1.0
