"""Tune BM25's b and k1 on validation by exact search at every point of a grid."""

from pathlib import Path

import numpy as np
from datasets import load_from_disk

from vlret.console import progress, say
from vlret.files import InputError, atomic, write_json
from vlret.lexical.grid import Grid
from vlret.lexical.heatmap import draw
from vlret.lexical.index import Index
from vlret.lexical.score import reciprocal_ranks
from vlret.runs import read_qrels
from vlret.settings import Range
from vlret.typed import typed

CUT = 100


@typed
def tune(index: Path, questions: Path, qrels: Path, b: Range, k1: Range, out: Path, heatmap: Path) -> None:
    """Find the b and k1 with the best MRR@100 on the validation questions; write them, the surface and a heatmap.

    Ties go to the first point in grid order (b, then k1). A question without a relevant passage counts as zero.

    Parameters
    ----------
    index
        The index from `vlret.lexical.index.build`.
    questions
        The table of questions.
    qrels
        The judgements of the validation questions.
    b, k1
        Their grid values, both bounds included.
    out
        JSON: `b`, `k1`, their MRR, and the surface.
    heatmap
        An SVG file.

    Raises
    ------
    InputError
        If the step does not divide a range, or the judgements are of other questions.
    """
    bs, k1s = axis("b", b), axis("k1", k1)
    points = [(b, k1) for b in bs for k1 in k1s]
    table = load_from_disk(str(questions))["validation"]
    texts = dict(zip(table["id"], table["input"], strict=True))
    grid = Grid(Index(index), points, CUT)
    judged = read_qrels(qrels)
    reciprocals = np.zeros((len(points), len(judged)))
    for column, (question, relevant) in enumerate(progress(judged.items(), len(judged), "question", "tune bm25")):
        if question not in texts:
            raise InputError(f"{qrels}: question {question} is not a validation question of {questions}")
        if relevant:
            found = reciprocal_ranks(*grid.best(texts[question]), np.array(sorted(relevant)))
            reciprocals[:, column] = found[grid.places]
    surface = [
        {"b": b, "k1": k1, "mrr": float(mean)} for (b, k1), mean in zip(points, map(np.mean, reciprocals), strict=True)
    ]
    best = max(surface, key=lambda point: point["mrr"])
    say(f"bm25: b {best['b']}, k1 {best['k1']}, validation MRR@{CUT} {best['mrr']:.4f} of {len(points)} points")
    with atomic(heatmap) as aside:
        aside.write_text(draw(surface, best, f"MRR@{CUT}"), encoding="utf-8")
    write_json(out, {"b": best["b"], "k1": best["k1"], f"mrr@{CUT}": best["mrr"], "surface": surface})


def axis(name: str, bounds: Range) -> list[float]:
    """The values from `start` to `stop`, both included; raises `InputError` if the step does not divide the range."""
    start, stop, step = bounds.start, bounds.stop, bounds.step
    steps = (stop - start) / step
    if steps < 0 or abs(steps - round(steps)) > 1e-6:
        raise InputError(f"config, bm25 tuning, {name}: step {step} does not divide the range from {start} to {stop}")
    return [round(start + number * step, 10) for number in range(round(steps) + 1)]
