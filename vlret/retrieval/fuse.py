"""Late fusion of several runs: a weighted sum of normalised scores, tuned on validation, or reciprocal ranks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from vlret.console import progress
from vlret.files import InputError, write_json
from vlret.runs import Ranking, per_question, read_qrels, read_run, run_name, sort_ranking, write_run
from vlret.settings import RRF, Fusion, Interpolation
from vlret.typed import typed

METRIC = "mrr@100"


@typed
def fuse(runs: list[Path], qrels: Path, settings: Fusion, k: int, tag: str, out: Path, report: Path) -> None:
    """Write the fusion of `runs`; an interpolation has the weights with the highest MRR@100 on the `qrels`.

    Parameters
    ----------
    runs
        Two or more runs; a part is called by its file's name without the suffix.
    qrels
        Of the validation questions.
    settings
        The method, and what it needs.
    k
        Passages kept a question.
    tag
        The name of the run.
    out
        The fused run, of every question of any part.
    report
        JSON: MRR@100 of the fusion and of each part; of an interpolation, the weights chosen and the whole surface.
    """
    names = [run_name(run) for run in runs]
    if len(set(names)) < len(names) or len(names) < 2:
        raise InputError(f"a fusion needs two or more different runs, found {', '.join(names)}")
    parts, judged = [read_run(run) for run in runs], read_qrels(qrels)
    if isinstance(settings, RRF):
        combine, tuned = partial(reciprocal_ranks, constant=settings.constant, k=k), {}
    else:
        weights, surface = _tune(parts, judged, settings, k, tag)
        combine = partial(_interpolated, weights=weights, normalisation=settings.normalisation, k=k)
        tuned = {"weights": dict(zip(names, weights, strict=True)), "surface": surface}
    questions = dict.fromkeys(question for part in parts for question in part)
    write_run(out, fused(parts, questions, combine), tag)
    description = {
        **settings.model_dump(),
        "questions": len(judged),
        METRIC: _mean(fused(parts, judged, combine), judged),
        "parts": {name: _mean(part, judged) for name, part in zip(names, parts, strict=True)},
        **tuned,
    }
    write_json(report, description)


def _tune(
    parts: Sequence[Mapping[str, Ranking]], judged: Mapping[str, set[int]], settings: Interpolation, k: int, tag: str
) -> tuple[list[float], list[dict]]:
    """The best weights on the judged questions, and MRR@100 of all."""
    grid, surface = list(weight_grid(len(parts), settings.step)), []
    for weights in progress(grid, len(grid), " weights", f"{tag} weights"):
        combine = partial(_interpolated, weights=weights, normalisation=settings.normalisation, k=k)
        surface.append({"weights": list(weights), METRIC: _mean(fused(parts, judged, combine), judged)})
    # Where several weightings are equally good, the most even one, of which the first.
    best = max(surface, key=lambda point: (point[METRIC], -max(point["weights"])))
    return best["weights"], surface


def weight_grid(parts: int, step: float) -> Iterable[tuple[float, ...]]:
    """Every weighting of `parts` runs in multiples of `step` that sums to 1, each part alone among them."""
    steps = round(1 / step)
    if abs(steps * step - 1) > 1e-9:
        raise InputError(f"step {step} of the weights does not divide 1: use 0.05, for example")
    for first in product(range(steps + 1), repeat=parts - 1):
        if sum(first) <= steps:
            yield tuple(count / steps for count in (*first, steps - sum(first)))


def fused(
    parts: Sequence[Mapping[str, Ranking]],
    questions: Iterable[str],
    combine: Callable[[Sequence[Ranking]], Ranking],
) -> dict[str, Ranking]:
    """The parts' rankings of some questions, each combined to one; a part without the question has an empty one."""
    none = Ranking(np.empty(0, np.int64), np.empty(0))
    return {question: combine([part.get(question, none) for part in parts]) for question in questions}


def _interpolated(rankings: Sequence[Ranking], weights: Sequence[float], normalisation: str, k: int) -> Ranking:
    """`weighted_sum` of the parts that have a weight: at a corner of the grid it is that part itself."""
    weighted = [(ranking, weight) for ranking, weight in zip(rankings, weights, strict=True) if weight > 0]
    return weighted_sum([ranking for ranking, _ in weighted], [weight for _, weight in weighted], normalisation, k)


def weighted_sum(rankings: Sequence[Ranking], weights: Sequence[float], normalisation: str, k: int) -> Ranking:
    """Fuse the rankings of one question: the sum of weight × normalised score, over the passages of any, cut at `k`.

    A passage that a ranking lacks has that ranking's lowest score. An empty ranking adds nothing, and one ranking
    alone stays as it is.

    Source: github.com/PaulLerner/ViQuAE, `meerqat.ir.fuse` with `defmin`, and ranx's `wsum`.
    """
    full = [(ranking, weight) for ranking, weight in zip(rankings, weights, strict=True) if len(ranking.passages)]
    if not full:
        return Ranking(np.empty(0, np.int64), np.empty(0))
    if len(full) == 1:
        return sort_ranking(*full[0][0], k)
    passages = np.unique(np.concatenate([ranking.passages for ranking, _ in full]))
    total = np.zeros(len(passages))
    for ranking, weight in full:
        total += weight * normalised(ranking, passages, normalisation)
    return sort_ranking(passages, total, k)


def normalised(ranking: Ranking, passages: np.ndarray, normalisation: str) -> np.ndarray:
    """A ranking's normalised score for each of `passages` (ascending, its own among them): `[passages]`.

    `zmuv` shifts and scales to mean 0 and variance 1 (a standard deviation below 1e-9 counts as 1e-9), once passages
    that the ranking lacks have its lowest score; `min-max` to 0 for the lowest and 1 for the highest; `rank` gives
    the first of n 1 and the last 1/n; `none` leaves scores as they are. As ranx's `zmuv`, `min-max` and `rank`.
    """
    own = 1 - np.arange(len(ranking.scores)) / len(ranking.scores) if normalisation == "rank" else ranking.scores
    scores = np.full(len(passages), own.min())
    scores[np.searchsorted(passages, ranking.passages)] = own
    if normalisation == "zmuv":
        return (scores - scores.mean()) / max(scores.std(), 1e-9)
    if normalisation == "min-max":
        return (scores - scores.min()) / max(np.ptp(scores), 1e-9)
    return scores


def reciprocal_ranks(rankings: Sequence[Ranking], constant: float, k: int) -> Ranking:
    """Reciprocal rank fusion: the sum of 1 / (constant + rank), over the passages of any, cut at `k`.

    A ranking that lacks a passage adds nothing (Cormack, Clarke and Büttcher, SIGIR 2009, whose constant is 60).
    """
    passages = np.unique(np.concatenate([ranking.passages for ranking in rankings]))
    total = np.zeros(len(passages))
    for ranking in rankings:
        total[np.searchsorted(passages, ranking.passages)] += 1 / (constant + 1 + np.arange(len(ranking.passages)))
    return sort_ranking(passages, total, k)


def _mean(run: dict[str, Ranking], qrels: dict[str, set[int]]) -> float:
    return float(per_question(run, qrels, [METRIC])[METRIC].mean())
