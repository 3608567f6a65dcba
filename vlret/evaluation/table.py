"""The table: every run's metrics, significant differences, and the interval of the main metric."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import load_from_disk

from vlret.console import say
from vlret.evaluation import renderings
from vlret.evaluation.results import PARTS, Results
from vlret.evaluation.significance import bootstrap_interval, corrected, number_groups, randomisation_test, t_test
from vlret.files import InputError, atomic, read_json
from vlret.made import digest, made_by
from vlret.settings import Evaluation, Matching
from vlret.typed import typed


@typed
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

    The other files are named after `out`: `.csv`, `.md`, `.html`, `.pvalues.csv`. All are rendered before any is
    written, so that an error leaves an older table unchanged.

    Parameters
    ----------
    metrics
        Files of `vlret.evaluation.metrics.evaluate`, one for each of `rows`, or their folder, `NAME.json`.
    questions
        The table of questions.
    rows
        The rows in order: `name`, and optionally `model`, `tuning`, `prefix`, `pooling` and `note`; `made`, the digest
        that the metrics' note (`vlret.made`) must have, so that they belong to the current config.
    settings
        What is measured, tested and printed.
    seed
        Seed of the test's permutations and the bootstrap's samples.
    out
        The LaTeX file.
    partial
        Leave out rows whose metrics are missing or stale, and name them in the caption.
    matching
        How the judgements match answers in passages; the caption states it unless it is meerqat's rule.

    Raises
    ------
    InputError
        If rows and files do not match, files were made with other settings or judged by other qrels, or too few
        permutations or units make significance impossible.
    """
    found = _files(metrics, rows)
    unusable = {row["name"]: why for row in rows if (why := _unusable(row, found.get(row["name"])))}
    if unusable and not partial:
        name, why = next(iter(unusable.items()))
        raise InputError(f"table: row {name} {why}")
    rows = [row for row in rows if row["name"] not in unusable]
    if not rows:
        raise InputError("table: no row is done yet")
    used = [found[row["name"]] for row in rows] if unusable else list(found.values())
    results = compute(_read(used, rows, settings.metrics), questions, rows, settings, seed)
    config = digest("evaluation table", 1, {"rows": rows}, {})
    results = replace(results, missing=list(unusable), config=config, matching=matching)
    rendered = {suffix: render(results) for suffix, render in renderings.SUFFIXES.items()}
    for suffix, text in rendered.items():
        with atomic(out.with_suffix(suffix)) as aside:
            aside.write_text(text, encoding="utf-8", newline="")
    main = results.shown[0]
    best = int(results.test[main].argmax())
    say(f"table: {len(rows)} rows, best test {main} {results.test[main][best]:.4f} by {rows[best]['name']}")


def _files(metrics: list[Path], rows: list[dict]) -> dict[str, Path]:
    """The metrics files by row name; unnamed and duplicate ones by path, for `_read` to refuse."""
    found = {}
    for path in metrics:
        if path.is_dir():
            found |= {row["name"]: path / f"{row['name']}.json" for row in rows}
        else:
            name = read_json(path).get("name")
            found[str(path) if name is None or name in found else name] = path
    return found


def _unusable(row: dict, path: Path | None) -> str | None:
    """Why the metrics of a row cannot be used; None if they can."""
    if path is None or not path.is_file():
        return f"has no metrics: {path or 'its file'} is missing"
    if row.get("made") not in (None, made_by(path)):
        return f"was made with settings other than the config's: make {path} again"
    return None


def compute(files: list[dict], questions: Path, rows: list[dict], settings: Evaluation, seed: int) -> Results:
    """Means, intervals and p-values of metrics files in the order of `rows`."""
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
        encoded={file["name"]: file["encoded"] for file in files if "encoded" in file},
    )


def _test(values: np.ndarray, groups: np.ndarray, settings: Evaluation, seed: int) -> np.ndarray:
    """Uncorrected p-values of all pairs of rows on each metric, `[metrics, rows, rows]`."""
    units = int(groups.max()) + 1
    if settings.test == "t":
        if units < 2:
            raise InputError("evaluation.test: t needs two units or more, but all test questions are about one entity")
        return t_test(values, groups)
    if message := settings.too_few_permutations(values.shape[1]):
        raise InputError(message)
    return randomisation_test(values, groups, settings.permutations, seed)


def _read(paths: list[Path], rows: list[dict], metrics: list[str]) -> list[dict]:
    """Read the metrics files in row order; checks that there is one per row and that all were judged alike."""
    files: dict[str, tuple[Path, dict]] = {}
    for path in paths:
        file = read_json(path)
        name = file.get("name")
        if name is None or "splits" not in file:
            raise InputError(f"{path}: no `name` and `splits`: this is not a metrics file")
        if lacking := [split for split in ("validation", "test") if split not in file["splits"]]:
            raise InputError(f"{path}: no metrics of {lacking[0]}: a table needs both, evaluate with both qrels")
        if name in files:
            raise InputError(f"{path}: metrics of {name} were already read from {files[name][0]}")
        # Arrays, since hundreds of runs would take gigabytes as lists.
        for measured in file["splits"].values():
            measured["per_question"] = {
                metric: np.array(values) for metric, values in measured["per_question"].items() if metric in metrics
            }
        files[name] = (path, file)
    names = [row["name"] for row in rows]
    for name in [*names, *files]:
        if name not in files:
            raise InputError(f"table: no file with the metrics of row {name}")
        if names.count(name) != 1:
            raise InputError(f"table: {files[name][0]} needs one row called {name}, found {names.count(name)}")
    first, reference = files[names[0]]
    for path, file in files.values():
        for split, measured in file["splits"].items():
            if measured["qrels_sha256"] != reference["splits"][split]["qrels_sha256"]:
                raise InputError(f"{path}: {split} qrels differ from those of {first}: judge all rows alike")
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
            raise InputError(f"{questions}: no test question {identifier}, which the metrics contain")
    return [entities[identifier] for identifier in identifiers]
