"""`vlret status`: what a run has done and is doing, read from the files that it leaves, so from any terminal.

These are the log of Snakemake's newest run, the results that stand there, and `progress.json` of each training.
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

REFRESH = 2.0  # seconds between two looks with --watch
STILL = 60.0  # seconds without progress after which a training is said to stand still
TO_RUN, STALE = "to run", "stale"


def show(asked: Asked, watch: bool) -> None:
    """Print what is done, running, queued and failed, and how trainings come on; with `watch` again and again.

    If no config is named, it is that of the newest run.
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
    """All that `vlret status` prints, of what `expected` names and of a run."""
    parts = [headline(run), *aligned(stages(files, run)), *aligned(trainings(layout))]
    failed = [job for job in run.jobs.values() if run.state(job) == FAILED]
    parts += [f"failed: {job.rule}, {job.log.split(', ')[0]}: {last_line(job)}" for job in failed]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return "\n".join(line[:width] for line in parts)


def headline(run: Run) -> str:
    """Which run it is, how far it is, and whether it is still at work."""
    if run.path is None:
        return "nothing was run here yet"
    done = sum(job.state == DONE for job in run.jobs.values())
    how = "at work" if run.alive else "ended"
    if not run.alive and not run.ended:
        broken = sum(job.state == RUNNING for job in run.jobs.values())
        how = f"killed while {broken} jobs were running; the same command goes on"
    return f"{run.path}: {done} of {sum(run.totals.values())} jobs done, {how} on {run.host}"


def stages(files: Mapping[str, Mapping[str, str]], run: Run) -> list[tuple]:
    """A row a rule: how many of its jobs are done, running, queued, failed, and the last line of its newest log."""
    rows = [("stage", DONE, RUNNING, QUEUED, FAILED, "last line of its log")]
    for rule in [*(rule for rule in run.totals if rule not in files), *files]:
        counted = run.counted(rule)
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
    """A row a training that has begun and is not done; no rows, not even a head, where there is none."""
    rows = []
    for experiment in trained(layout.config):
        if known := progress(layout, experiment):
            age = time.time() - known["time"]
            when = "at work" if age < STILL else f"stands still for {clock(age)}"
            mrr = "–" if known["mrr"] is None else f"{known['mrr']:.3f}"
            step, speed = f"{known['step']} of {known['steps']}", f"{known['questions_per_second']:.1f} questions/s"
            numbers = (step, f"{known['epoch']:.1f}", f"{known['loss']:.4f}", mrr, speed, clock(known["seconds"]))
            rows.append((experiment.name, *numbers, when))
    head = ("training", "step", "epoch", "loss", "validation MRR", "speed", "left", "")
    return [head, *rows] if rows else []


def progress(layout: Layout, experiment: Experiment) -> dict | None:
    """What the training of an experiment last told of itself; None before its first step and once it is done."""
    path = Path(f"{layout.checkpoint(experiment)}.training") / "progress.json"
    return read_json(path) if path.is_file() else None


def states(layout: Layout, run: Run) -> dict[str, str]:
    """Each row of the table: done, stale, running, failed or to run, by files alone.

    A row is stale whose metrics were made with other settings than the config's, as the note beside them says.
    """
    files = expected(layout)
    owners = {path: name for some in files.values() for path, name in some.items()}
    found = {}
    for job in run.jobs.values():
        for name in {owners[path] for path in job.output if path in owners}:
            if (state := run.state(job)) in (RUNNING, FAILED):
                found[name] = state
    for experiment in trained(layout.config):
        if (known := progress(layout, experiment)) and time.time() - known["time"] < STILL:
            found[experiment.name] = RUNNING
    return {row.name: found.get(row.name) or made(layout, layout.metrics(row.name)) for row in rows(layout.config)}


def made(layout: Layout, file: File) -> str:
    """Whether a result is there, and of today's settings as far as its note says."""
    if not Path(file).exists():
        return TO_RUN
    return DONE if made_by(Path(file)) in (None, layout.digest(file)) else STALE


def aligned(rows: Sequence[Sequence[object]]) -> Iterable[str]:
    """Rows as lines of columns, numbers to the right; an empty line in front where there are any."""
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
    """What the rules of single experiments are to make: rule -> file -> the row or experiment that it is of."""
    config, found = layout.config, {}

    def note(file: File, owner: str) -> None:
        found.setdefault(file.rule, {})[str(file)] = owner

    for experiment in trained(config):
        if kind_of(config, experiment) != "lexical":
            note(layout.checkpoint(experiment), experiment.name)
    for row in rows(config):
        run = layout.run(row.name)
        if run.rule == "search":
            note(layout.made("embed", experiment=row.name), row.name)
        if run.rule == "search_ablation":
            note(layout.made("ablate", **run.wildcards), row.name)
        note(run, row.name)
        note(layout.metrics(row.name), row.name)
    note(layout.made("table"), "table")
    return {rule: found[rule] for rule in OUTPUTS if rule in found}
