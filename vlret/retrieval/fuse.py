"""Late fusion of runs: a weighted sum of normalised scores, tuned on validation, or reciprocal rank fusion."""

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
    """Fuse `runs`; interpolation uses the weights with the best MRR@100 on `qrels`.

    Parameters
    ----------
    runs
        Two or more runs, named after their files without suffix.
    qrels
        Judgements of the validation questions.
    settings
        The method and its parameters.
    k
        Passages per question.
    tag
        The name of the run.
    out
        The fused run, with the questions of all runs.
    report
        JSON: MRR@100 of the fusion and of each run; for interpolation, also the weights and the surface.
    """
    names = [run_name(run) for run in runs]
    if len(set(names)) < len(names) or len(names) < 2:
        raise InputError(f"fusion needs two or more different runs, found {', '.join(names)}")
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
    """The best weights on the judged questions, and MRR@100 of every weighting."""
    grid, surface = list(weight_grid(len(parts), settings.step)), []
    for weights in progress(grid, len(grid), " weights", f"{tag} weights"):
        combine = partial(_interpolated, weights=weights, normalisation=settings.normalisation, k=k)
        surface.append({"weights": list(weights), METRIC: _mean(fused(parts, judged, combine), judged)})
    # Ties go to the most even weighting, then to the first.
    best = max(surface, key=lambda point: (point[METRIC], -max(point["weights"])))
    return best["weights"], surface


def weight_grid(parts: int, step: float) -> Iterable[tuple[float, ...]]:
    """All weightings of `parts` runs in multiples of `step` that sum to 1, including each single run."""
    steps = round(1 / step)
    if abs(steps * step - 1) > 1e-9:
        raise InputError(f"step {step} of the weights does not divide 1; use 0.05, for example")
    for first in product(range(steps + 1), repeat=parts - 1):
        if sum(first) <= steps:
            yield tuple(count / steps for count in (*first, steps - sum(first)))


def fused(
    parts: Sequence[Mapping[str, Ranking]],
    questions: Iterable[str],
    combine: Callable[[Sequence[Ranking]], Ranking],
) -> dict[str, Ranking]:
    """The combined rankings of some questions; a run without the question counts as an empty ranking."""
    empty = Ranking(np.empty(0, np.int64), np.empty(0))
    return {question: combine([part.get(question, empty) for part in parts]) for question in questions}


def _interpolated(rankings: Sequence[Ranking], weights: Sequence[float], normalisation: str, k: int) -> Ranking:
    """`weighted_sum` of the rankings with a positive weight; at a corner of the grid, that ranking itself."""
    weighted = [(ranking, weight) for ranking, weight in zip(rankings, weights, strict=True) if weight > 0]
    return weighted_sum([ranking for ranking, _ in weighted], [weight for _, weight in weighted], normalisation, k)


def weighted_sum(rankings: Sequence[Ranking], weights: Sequence[float], normalisation: str, k: int) -> Ranking:
    """Fuse the rankings of one question by the sum of weight × normalised score; the `k` best of all passages.

    A passage missing from a ranking gets its lowest score. Empty rankings are ignored, and a single ranking is not
    changed.

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
    """A ranking's normalised score for each of `passages` (ascending, including its own): `[passages]`.

    Missing passages first get the lowest score. `zmuv` scales to mean 0 and variance 1 (standard deviations below 1e-9
    count as 1e-9); `min-max` to [0, 1]; `rank` gives the first of n 1 and the last 1/n; `none` keeps scores. As ranx's
    `zmuv`, `min-max` and `rank`.
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
    """Reciprocal rank fusion by the sum of 1 / (constant + rank); the `k` best of all passages.

    A ranking without a passage adds nothing. Source: Cormack, Clarke and Büttcher, SIGIR 2009, with a constant of 60.
    """
    passages = np.unique(np.concatenate([ranking.passages for ranking in rankings]))
    total = np.zeros(len(passages))
    for ranking in rankings:
        total[np.searchsorted(passages, ranking.passages)] += 1 / (constant + 1 + np.arange(len(ranking.passages)))
    return sort_ranking(passages, total, k)


def _mean(run: dict[str, Ranking], qrels: dict[str, set[int]]) -> float:
    return float(per_question(run, qrels, [METRIC])[METRIC].mean())
