"""Metrics of one run, question by question, on validation and test."""

from pathlib import Path

from vlret.console import say
from vlret.files import InputError, sha256, write_json
from vlret.runs import per_question, read_qrels, read_run

SPLITS = ("validation", "test")


def evaluate(run: Path, qrels: list[Path], metrics: list[str], name: str, out: Path) -> None:
    """Write every metric for every question of the validation and the test qrels (in this order), and their means.

    A question of the qrels that the run lacks counts as zero, and so does one without relevant passage; how many those
    are is said. The digest of the qrels goes into the file, so that a table can tell if its rows were judged alike.

    Parameters
    ----------
    run
        A run.
    qrels
        Judgements, the files of the validation and of the test questions; a single file, such as published ones, is
        that of the test.
    metrics
        Their names as ranx has them, such as `mrr@100`.
    name
        What a table calls the run.
    out
        The JSON file to write.

    Raises
    ------
    InputError
        For more files of qrels than splits, and if the run ranks passages, but none for any question of one of the
        splits: then it is not a run for these qrels.
    """
    if len(qrels) > len(SPLITS):
        raise InputError(f"qrels: {len(qrels)} files, expected one of {' and one of '.join(SPLITS)}, or of test alone")
    ranked = read_run(run)
    splits = {}
    for split, path in zip(SPLITS[-len(qrels) :], qrels, strict=True):
        judged = read_qrels(path)
        if ranked and judged.keys().isdisjoint(ranked):
            raise InputError(f"{run}: ranks no passage for any question of {path}; it is a run of other questions")
        if lost := len(judged.keys() - ranked.keys()):
            say(f"{name}: {run} lacks {lost} of the {len(judged)} questions of {path}; they count as zero")
        values = per_question(ranked, judged, metrics)
        splits[split] = {
            "qrels_sha256": sha256(path),
            "without_relevant": sum(not relevant for relevant in judged.values()),
            "mean": {metric: float(column.mean()) for metric, column in values.items()},
            "questions": list(judged),
            "per_question": {metric: column.tolist() for metric, column in values.items()},
        }
    write_json(out, {"name": name, "splits": splits})
    means = ", ".join(f"{split} {splits[split]['mean'][metrics[0]]:.4f}" for split in splits)
    say(f"{name}: {metrics[0]} {means}")
