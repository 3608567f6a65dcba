"""Late fusion: a weighted sum of several runs' scores, the weights tuned on validation."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from vlret.console import progress
from vlret.files import InputError, write_json
from vlret.runs import Ranking, per_question, read_qrels, read_run, sort_ranking, write_run

METRIC = "mrr@100"
NORMALISATIONS = ("zmuv",)


def fuse(runs: list[Path], qrels: Path, settings: dict, k: int, tag: str, out: Path, report: Path) -> None:
    """Write the fusion of `runs` with the weights that have the highest MRR@100 on the questions of `qrels`.

    Parameters
    ----------
    runs
        Two or more runs; a part is called by its file's name without the suffix.
    qrels
        Of the validation questions.
    settings
        `normalisation`: `zmuv`; `step` of the grid of weights, which sum to 1.
    k
        Passages kept a question.
    out
        The fused run, of every question of any part.
    report
        JSON: the weights chosen, MRR@100 of the fusion and of each part, and the whole surface.
    """
    names = [Path(run).stem for run in runs]
    if len(set(names)) < len(names) or len(names) < 2:
        raise InputError(f"a fusion needs two or more different runs, found {', '.join(names)}")
    if settings["normalisation"] not in NORMALISATIONS:
        raise InputError(f"normalisation {settings['normalisation']!r} is unknown: use {', '.join(NORMALISATIONS)}")
    parts, judged = [read_run(run) for run in runs], read_qrels(qrels)
    grid = list(weight_grid(len(parts), settings["step"]))
    surface = [
        {"weights": list(weights), METRIC: _mean(fused(parts, weights, judged, k), judged)}
        for weights in progress(grid, len(grid), " weights", f"{tag} weights")
    ]
    # Where several weightings are equally good, the most even one, of which the first.
    best = max(surface, key=lambda point: (point[METRIC], -max(point["weights"])))
    questions = dict.fromkeys(question for part in parts for question in part)
    write_run(out, fused(parts, best["weights"], questions, k), tag)
    description = {
        "normalisation": settings["normalisation"],
        "questions": len(judged),
        "weights": dict(zip(names, best["weights"], strict=True)),
        METRIC: best[METRIC],
        "parts": {name: _mean(part, judged) for name, part in zip(names, parts, strict=True)},
        "surface": surface,
    }
    write_json(report, description)


def weight_grid(parts: int, step: float) -> Iterable[tuple[float, ...]]:
    """Every weighting of `parts` runs in multiples of `step` that sums to 1, each part alone among them."""
    steps = round(1 / step)
    if abs(steps * step - 1) > 1e-9:
        raise InputError(f"step {step} of the weights does not divide 1: use 0.05, for example")
    for first in product(range(steps + 1), repeat=parts - 1):
        if sum(first) <= steps:
            yield tuple(count / steps for count in (*first, steps - sum(first)))


def fused(
    parts: Sequence[dict[str, Ranking]], weights: Sequence[float], questions: Iterable[str], k: int
) -> dict[str, Ranking]:
    """The weighted sum of the parts for some questions.

    A part of weight 0 adds neither scores nor passages, so the fusion at a corner of the grid is the part itself.
    """
    taking_part = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight > 0]
    run = {}
    for question in questions:
        found = [(part[question], weight) for part, weight in taking_part if question in part]
        run[question] = weighted_sum([ranking for ranking, _ in found], [weight for _, weight in found], k)
    return run


def weighted_sum(rankings: Sequence[Ranking], weights: Sequence[float], k: int) -> Ranking:
    """Fuse the rankings of one question: the sum of weight × score, over the passages of any, cut at `k`.

    A passage that a ranking lacks has that ranking's lowest score; then the ranking's scores are shifted and scaled to
    mean 0 and variance 1 (a standard deviation below 1e-9 counts as 1e-9). An empty ranking adds nothing, and one
    ranking alone stays as it is.

    Source: github.com/PaulLerner/ViQuAE, `meerqat.ir.fuse` with `defmin`, and ranx's `zmuv` and `wsum`.
    """
    full = [(ranking, weight) for ranking, weight in zip(rankings, weights, strict=True) if len(ranking.passages)]
    if not full:
        return Ranking(np.empty(0, np.int64), np.empty(0))
    if len(full) == 1:
        return sort_ranking(*full[0][0], k)
    passages = np.unique(np.concatenate([ranking.passages for ranking, _ in full]))
    total = np.zeros(len(passages))
    for ranking, weight in full:
        scores = np.full(len(passages), ranking.scores.min())
        scores[np.searchsorted(passages, ranking.passages)] = ranking.scores
        total += weight * (scores - scores.mean()) / max(scores.std(), 1e-9)
    return sort_ranking(passages, total, k)


def _mean(run: dict[str, Ranking], qrels: dict[str, set[int]]) -> float:
    return float(per_question(run, qrels, [METRIC])[METRIC].mean())
