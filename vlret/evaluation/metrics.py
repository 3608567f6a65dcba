"""Per-question metrics of one run on validation and test."""

from pathlib import Path

from vlret.console import say
from vlret.files import InputError, read_json, sha256, write_json
from vlret.runs import per_question, read_qrels, read_run

SPLITS = ("validation", "test")


def evaluate(
    run: Path, qrels: list[Path], metrics: list[str], name: str, out: Path, search: Path | None = None
) -> None:
    """Write every metric for every question of the validation and test qrels (in this order), and their means.

    Questions that are missing from the run or have no relevant passage count as zero; how many are missing is reported.
    The file holds the digest of the qrels, so that a table can check that its rows were judged alike.

    Parameters
    ----------
    run
        A run.
    qrels
        Qrels of the validation and of the test questions; a single file, such as published qrels, is of the test
        questions.
    metrics
        Names as in ranx, such as `mrr@100`.
    name
        The run's name in a table.
    out
        The JSON file to write.
    search
        The report of the search that made the run, from which the table's caption says how vectors were computed.

    Raises
    ------
    InputError
        If there are more qrels files than splits, or if a run that ranks passages has none of the questions of a
        split: then it belongs to other qrels.
    """
    if len(qrels) > len(SPLITS):
        raise InputError(f"qrels: {len(qrels)} files, expected one of {' and one of '.join(SPLITS)}, or only of test")
    ranked = read_run(run)
    splits = {}
    for split, path in zip(SPLITS[-len(qrels) :], qrels, strict=True):
        judged = read_qrels(path)
        if ranked and judged.keys().isdisjoint(ranked):
            raise InputError(f"{run}: ranks no passage for any question of {path}; it is a run of other questions")
        if missing := len(judged.keys() - ranked.keys()):
            say(f"{name}: {run} lacks {missing} of the {len(judged)} questions of {path}; they count as zero")
        values = per_question(ranked, judged, metrics)
        splits[split] = {
            "qrels_sha256": sha256(path),
            "without_relevant": sum(not relevant for relevant in judged.values()),
            "mean": {metric: float(column.mean()) for metric, column in values.items()},
            "questions": list(judged),
            "per_question": {metric: column.tolist() for metric, column in values.items()},
        }
    encoded = read_json(search).get("encoded") if search else None
    write_json(out, {"name": name, "splits": splits, **({"encoded": encoded} if encoded else {})})
    means = ", ".join(f"{split} {splits[split]['mean'][metrics[0]]:.4f}" for split in splits)
    say(f"{name}: {metrics[0]} {means}")
