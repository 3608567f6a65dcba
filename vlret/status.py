"""`vlret status`: progress of a run, read from files and so from any terminal.

The files are the log of Snakemake's newest run, the results, and `progress.json` of each training.
"""

import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vlret.asked import Asked, of_run
from vlret.console import clock
from vlret.experiment import Experiment, kind_of, rows, trained
from vlret.files import read_json
from vlret.jobs import DONE, FAILED, QUEUED, RUNNING, Job, Run, last_line, newest_run
from vlret.layout import OUTPUTS, File, Layout
from vlret.made import made_by

REFRESH = 2.0  # seconds between refreshes with --watch
STALLED = 60.0  # seconds without progress after which a training counts as stalled
TO_RUN, STALE = "to run", "stale"


def show(asked: Asked, watch: bool) -> None:
    """Print what is done, running, queued and failed, and the progress of trainings; with `watch` repeatedly.

    The config defaults to that of the newest run.
    """
    layout = (asked or of_run(newest_run())).layout()
    files = expected(layout)
    while True:
        text = overview(layout, files, newest_run())
        if not watch:
            print(text)
            return
        print(f"\033[H\033[J{text}", flush=True)
        try:
            time.sleep(REFRESH)
        except KeyboardInterrupt:
            return


def overview(layout: Layout, files: Mapping[str, Mapping[str, str]], run: Run) -> str:
    """The text of `vlret status`, for the files of `expected` and a run."""
    parts = [headline(run), *aligned(stages(files, run)), *aligned(trainings(layout))]
    failed = [job for job in run.jobs.values() if run.state(job) == FAILED]
    parts += [f"failed: {job.rule}, {job.log.split(', ')[0]}: {last_line(job)}" for job in failed]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return "\n".join(line[:width] for line in parts)


def headline(run: Run) -> str:
    """The run, how many of its jobs are done, and whether it is still running."""
    if run.path is None:
        return "nothing was run here yet"
    done = sum(job.state == DONE for job in run.jobs.values())
    how = "running" if run.alive else "ended"
    if not run.alive and not run.ended:
        broken = sum(job.state == RUNNING for job in run.jobs.values())
        how = f"killed while {broken} jobs were running; the same command resumes"
    return f"{run.path}: {done} of {sum(run.totals.values())} jobs done, {how} on {run.host}"


def stages(files: Mapping[str, Mapping[str, str]], run: Run) -> list[tuple]:
    """One row per rule: its jobs done, running, queued and failed, and the last line of its newest log."""
    rows = [("stage", DONE, RUNNING, QUEUED, FAILED, "last line of its log")]
    for rule in [*(rule for rule in run.totals if rule not in files), *files]:
        counted = run.counts(rule)
        done, total = counted[DONE], run.totals.get(rule, 0)
        if rule in files:
            done, total = sum(Path(path).exists() for path in files[rule]), len(files[rule])
        queued = max(0, total - done - counted[RUNNING] - counted[FAILED])
        jobs = sorted((job for job in run.jobs.values() if job.rule == rule), key=lambda job: _urgency(run, job))
        rows.append((rule, done, counted[RUNNING], queued, counted[FAILED], last_line(jobs[-1]) if jobs else ""))
    return rows


def _urgency(run: Run, job: Job) -> tuple[int, float]:
    return (QUEUED, DONE, FAILED, RUNNING).index(run.state(job)), job.since


def trainings(layout: Layout) -> list[tuple]:
    """One row per unfinished training, under a header; empty if there is none."""
    rows = []
    for experiment in trained(layout.config):
        if known := progress(layout, experiment):
            age = time.time() - known["time"]
            when = "running" if age < STALLED else f"stalled for {clock(age)}"
            mrr = "–" if known["mrr"] is None else f"{known['mrr']:.3f}"
            step, speed = f"{known['step']} of {known['steps']}", f"{known['questions_per_second']:.1f} questions/s"
            numbers = (step, f"{known['epoch']:.1f}", f"{known['loss']:.4f}", mrr, speed, clock(known["seconds"]))
            rows.append((experiment.name, *numbers, when))
    head = ("training", "step", "epoch", "loss", "validation MRR", "speed", "left", "")
    return [head, *rows] if rows else []


def progress(layout: Layout, experiment: Experiment) -> dict | None:
    """The last progress record of an experiment's training; None before its first step and once it is done."""
    path = Path(f"{layout.checkpoint(experiment)}.training") / "progress.json"
    return read_json(path) if path.is_file() else None


def states(layout: Layout, run: Run) -> dict[str, str]:
    """State of each row of the table, from files only: done, stale, running, failed or to run.

    A row is stale if its metrics were made with settings other than the config's, according to their note.
    """
    files = expected(layout)
    owners = {path: name for some in files.values() for path, name in some.items()}
    found = {}
    for job in run.jobs.values():
        for name in {owners[path] for path in job.output if path in owners}:
            if (state := run.state(job)) in (RUNNING, FAILED):
                found[name] = state
    for experiment in trained(layout.config):
        if (known := progress(layout, experiment)) and time.time() - known["time"] < STALLED:
            found[experiment.name] = RUNNING
    return {row.name: found.get(row.name) or state_of(layout, layout.metrics(row.name)) for row in rows(layout.config)}


def state_of(layout: Layout, file: File) -> str:
    """State of a result: missing, stale, or done (also without a note)."""
    if not Path(file).exists():
        return TO_RUN
    return DONE if made_by(Path(file)) in (None, layout.digest(file)) else STALE


def aligned(rows: Sequence[Sequence[object]]) -> Iterable[str]:
    """Align rows in columns, integers to the right, after an empty line; nothing for no rows."""
    if not rows:
        return []
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            str(cell).rjust(width) if isinstance(cell, int) else str(cell).ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
    return ["", *lines]


def expected(layout: Layout) -> dict[str, dict[str, str]]:
    """The outputs of the rules that run per experiment: rule -> file -> its row or experiment."""
    config, found = layout.config, {}

    def note(file: File, owner: str) -> None:
        found.setdefault(file.rule, {})[str(file)] = owner

    for experiment in trained(config):
        if kind_of(config, experiment) != "lexical":
            note(layout.checkpoint(experiment), experiment.name)
    for row in rows(config):
        run = layout.run(row.name)
        if run.rule == "search":
            for shard in layout.embeddings(row.name):
                note(shard, row.name)
            note(layout.made("embed_questions", experiment=row.name), row.name)
        if run.rule == "search_ablation":
            note(layout.made("ablate", **run.wildcards), row.name)
        note(run, row.name)
        note(layout.metrics(row.name), row.name)
    note(layout.made("table"), "table")
    return {rule: found[rule] for rule in OUTPUTS if rule in found}
