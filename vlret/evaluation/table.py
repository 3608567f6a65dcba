"""The table: every run's metrics, which differences are significant, and how sure the main metric is."""

import math
from pathlib import Path

import numpy as np
from datasets import load_from_disk

from vlret.console import say
from vlret.evaluation import renderings
from vlret.evaluation.results import PARTS, Results
from vlret.evaluation.significance import bootstrap_interval, corrected, number_groups, randomisation_test, t_test
from vlret.files import InputError, read_json, whole


def table(metrics: list[Path], questions: Path, rows: list[dict], settings: dict, out: Path) -> None:
    """Write `out` (LaTeX) and beside it, with the same stem, `.csv`, `.md`, `.html`, and `.pvalues.csv`.

    The caption says which judgements these are: `settings["qrels"]`, `static` or `dynamic`.

    `metrics`: files of `vlret.evaluation.metrics.evaluate`, one for each of `rows`, found by name; the table keeps
    the order of `rows`. `settings`: `metrics` (names), `columns` (those that are printed, the main one first), `test`
    (`randomisation` or `t`), `correction` (of `vlret.evaluation.significance.CORRECTIONS`), `p`, `permutations` (of
    the test, and samples of the bootstrap), `groups` (`entity` or `question`: what is swapped and drawn together),
    `interval` (its level, such as 0.95), `seed`.
    Raises `InputError` if rows and files do not match, were not judged by the same qrels, or if no difference could
    be significant with so few permutations or units.
    """
    results = compute(_read(metrics, rows, settings["metrics"]), questions, rows, settings)
    for suffix, render in renderings.SUFFIXES.items():
        with whole(out.with_suffix(suffix)) as aside:
            aside.write_text(render(results), encoding="utf-8", newline="")
    main = results.shown[0]
    best = int(results.test[main].argmax())
    say(f"table: {len(rows)} rows, best test {main} {results.test[main][best]:.4f} by {rows[best]['name']}")


def compute(files: list[dict], questions: Path, rows: list[dict], settings: dict) -> Results:
    """Means, intervals and p-values of metrics files that are in the order of `rows`."""
    names = settings["metrics"]
    validation, test = (
        {name: np.array([file["splits"][split]["per_question"][name] for file in files]) for name in names}
        for split in ("validation", "test")
    )
    first = files[0]["splits"]
    entities = _entities(questions, first["test"]["questions"])
    labels = entities if settings["groups"] == "entity" else first["test"]["questions"]
    groups = number_groups(labels)
    stacked = np.stack([test[name] for name in names])
    p_values = _test(stacked, groups, settings)
    intervals = bootstrap_interval(stacked, groups, settings["seed"], settings["permutations"], settings["interval"])
    return Results(
        rows=[{"note": "", **dict.fromkeys(PARTS, ""), **row} for row in rows],
        metrics=names,
        validation={name: values.mean(axis=1) for name, values in validation.items()},
        test={name: values.mean(axis=1) for name, values in test.items()},
        intervals=dict(zip(names, intervals, strict=True)),
        p_values=dict(zip(names, p_values, strict=True)),
        corrected=dict(zip(names, corrected(p_values, settings["correction"]), strict=True)),
        settings=settings,
        counts={
            "validation": len(first["validation"]["questions"]),
            "test": len(entities),
            "entities": len(set(entities)),
            "without_relevant": first["test"]["without_relevant"],
        },
    )


def _test(values: np.ndarray, groups: np.ndarray, settings: dict) -> np.ndarray:
    """p of all pairs of rows on each metric, `[metrics, rows, rows]`, before any correction."""
    units = int(groups.max()) + 1
    if settings["test"] == "t":
        if units < 2:
            raise InputError("evaluation.test: t needs two units or more, and all test questions are of one entity")
        return t_test(values, groups)
    permutations, compared = settings["permutations"], 1
    if settings["correction"] == "holm":
        compared = max(1, values.shape[1] * (values.shape[1] - 1) // 2)
    if compared / (1 + permutations) > settings["p"]:
        needed = math.ceil(compared / settings["p"]) - 1
        raise InputError(
            f"evaluation.permutations: {permutations} cannot make p as low as {settings['p']:g} with correction "
            f"{settings['correction']} over {compared} pairs; set {needed} or more, or another evaluation.correction"
        )
    return randomisation_test(values, groups, permutations, settings["seed"])


def _read(paths: list[Path], rows: list[dict], metrics: list[str]) -> list[dict]:
    """The metrics files in the order of the rows, checked to be one a row, and judged alike."""
    files: dict[str, tuple[Path, dict]] = {}
    for path in paths:
        file = read_json(path)
        name = file.get("name")
        if name is None or "splits" not in file:
            raise InputError(f"{path}: no `name` and `splits`: this is not a file of metrics")
        if lacking := [split for split in ("validation", "test") if split not in file["splits"]]:
            raise InputError(f"{path}: no metrics of {lacking[0]}: a table needs both, evaluate with both qrels")
        if name in files:
            raise InputError(f"{path}: metrics of {name} were already read from {files[name][0]}")
        # As arrays: hundreds of runs would take gigabytes as lists.
        for measured in file["splits"].values():
            measured["per_question"] = {
                metric: np.array(values) for metric, values in measured["per_question"].items() if metric in metrics
            }
        files[name] = (path, file)
    names = [row["name"] for row in rows]
    for name in [*names, *files]:
        if name not in files:
            raise InputError(f"table: no file holds the metrics of row {name}")
        if names.count(name) != 1:
            raise InputError(f"table: {files[name][0]} needs one row called {name}, found {names.count(name)}")
    first, reference = files[names[0]]
    for path, file in files.values():
        for split, measured in file["splits"].items():
            if measured["qrels_sha256"] != reference["splits"][split]["qrels_sha256"]:
                raise InputError(f"{path}: other {split} qrels than {first}: rows of one table are judged alike")
            for metric in metrics:
                if metric not in measured["per_question"]:
                    raise InputError(f"{path}: no values of {metric}: evaluate that run again with it")
    return [files[name][1] for name in names]


def _entities(questions: Path, identifiers: list[str]) -> list[str]:
    """The entity (`wikidata_id`) of each test question."""
    split = load_from_disk(str(questions))["test"]
    entities = dict(zip(split["id"], split["wikidata_id"], strict=True))
    for identifier in identifiers:
        if identifier not in entities:
            raise InputError(f"{questions}: no test question {identifier}, which the metrics are about")
    return [entities[identifier] for identifier in identifiers]
