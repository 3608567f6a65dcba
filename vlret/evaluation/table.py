"""The table: every run's metrics, which differences are significant, and how sure the main metric is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import load_from_disk

from vlret.console import say
from vlret.evaluation import renderings
from vlret.evaluation.results import PARTS, Results
from vlret.evaluation.significance import bootstrap_interval, corrected, number_groups, randomisation_test, t_test
from vlret.files import InputError, read_json, whole
from vlret.made import digest, made_by
from vlret.settings import Evaluation, Matching


def table(
    metrics: list[Path],
    questions: Path,
    rows: list[dict],
    settings: Evaluation,
    seed: int,
    out: Path,
    partial: bool = False,
    matching: Matching = "meerqat",
) -> None:
    """Compare runs: write the table as LaTeX, CSV, Markdown and HTML, and the p-values of all pairs.

    The files lie beside `out`, with the same stem: `.csv`, `.md`, `.html`, `.pvalues.csv`. All are made before any is
    written, so that a mistake leaves an older table as it was.

    Parameters
    ----------
    metrics
        Files of `vlret.evaluation.metrics.evaluate`, one for each of `rows`, or the folder of all, `NAME.json`.
    questions
        The table of questions.
    rows
        The rows in their order: `name`, and where it has them `model`, `tuning`, `prefix`, `pooling` and `note`;
        `made`, the digest of the metrics' note (`vlret.made`), where they shall be of today's config and no other.
    settings
        What is measured, tested and printed.
    seed
        Of the test's permutations and the bootstrap's samples.
    out
        The LaTeX file.
    partial
        Whether rows whose metrics are not there, or of other settings, are left out and named in the caption.
    matching
        How the judgements found answers in passages, which the caption says where it is not as in meerqat.

    Raises
    ------
    InputError
        If rows and files do not match, files are of other settings than rows say, were not judged by the same qrels, or
        if no difference could be significant with so few permutations or units.
    """
    found = _files(metrics, rows)
    absent = {row["name"]: why for row in rows if (why := _absent(row, found.get(row["name"])))}
    if absent and not partial:
        name, why = next(iter(absent.items()))
        raise InputError(f"table: row {name} {why}")
    rows = [row for row in rows if row["name"] not in absent]
    if not rows:
        raise InputError("table: no row is there yet")
    used = [found[row["name"]] for row in rows] if absent else list(found.values())
    results = compute(_read(used, rows, settings.metrics), questions, rows, settings, seed)
    config = digest("evaluation table", 1, {"rows": rows}, {})
    results = replace(results, absent=list(absent), config=config, matching=matching)
    rendered = {suffix: render(results) for suffix, render in renderings.SUFFIXES.items()}
    for suffix, text in rendered.items():
        with whole(out.with_suffix(suffix)) as aside:
            aside.write_text(text, encoding="utf-8", newline="")
    main = results.shown[0]
    best = int(results.test[main].argmax())
    say(f"table: {len(rows)} rows, best test {main} {results.test[main][best]:.4f} by {rows[best]['name']}")


def _files(metrics: list[Path], rows: list[dict]) -> dict[str, Path]:
    """The files of metrics by the rows' names; those of others under their paths, for `_read` to refuse."""
    found = {}
    for path in metrics:
        if path.is_dir():
            found |= {row["name"]: path / f"{row['name']}.json" for row in rows}
        else:
            name = read_json(path).get("name")
            found[str(path) if name is None or name in found else name] = path
    return found


def _absent(row: dict, path: Path | None) -> str | None:
    """Why the metrics of a row are not to be had; None if they are."""
    if path is None or not path.is_file():
        return f"is not there: {path or 'no file'} holds its metrics"
    if row.get("made") not in (None, made_by(path)):
        return f"is of other settings than the config's: make {path} anew"
    return None


def compute(files: list[dict], questions: Path, rows: list[dict], settings: Evaluation, seed: int) -> Results:
    """Means, intervals and p-values of metrics files that are in the order of `rows`."""
    names = settings.metrics
    validation, test = (
        {name: np.array([file["splits"][split]["per_question"][name] for file in files]) for name in names}
        for split in ("validation", "test")
    )
    first = files[0]["splits"]
    entities = _entities(questions, first["test"]["questions"])
    labels = entities if settings.groups == "entity" else first["test"]["questions"]
    groups = number_groups(labels)
    stacked = np.stack([test[name] for name in names])
    p_values = _test(stacked, groups, settings, seed)
    intervals = bootstrap_interval(stacked, groups, seed, settings.permutations, settings.interval)
    return Results(
        rows=[
            {"note": "", **dict.fromkeys(PARTS, ""), **{k: v for k, v in row.items() if k != "made"}} for row in rows
        ],
        metrics=names,
        validation={name: values.mean(axis=1) for name, values in validation.items()},
        test={name: values.mean(axis=1) for name, values in test.items()},
        intervals=dict(zip(names, intervals, strict=True)),
        p_values=dict(zip(names, p_values, strict=True)),
        corrected=dict(zip(names, corrected(p_values, settings.correction), strict=True)),
        settings=settings,
        seed=seed,
        counts={
            "validation": len(first["validation"]["questions"]),
            "test": len(entities),
            "entities": len(set(entities)),
            "without_relevant": first["test"]["without_relevant"],
        },
    )


def _test(values: np.ndarray, groups: np.ndarray, settings: Evaluation, seed: int) -> np.ndarray:
    """p of all pairs of rows on each metric, `[metrics, rows, rows]`, before any correction."""
    units = int(groups.max()) + 1
    if settings.test == "t":
        if units < 2:
            raise InputError("evaluation.test: t needs two units or more, and all test questions are of one entity")
        return t_test(values, groups)
    if message := settings.too_few_permutations(values.shape[1]):
        raise InputError(message)
    return randomisation_test(values, groups, settings.permutations, seed)


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
