"""`vlret status`: what a run has done and is doing, read from the files that it leaves, so from any terminal.

These are the log of Snakemake's newest run, the results that stand there, and `progress.json` of each training.
"""

import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vlret.console import clock
from vlret.experiment import grid, kind_of, load_config, trained
from vlret.files import read_json
from vlret.jobs import DONE, FAILED, QUEUED, RUNNING, Job, Run, newest_run
from vlret.validation import validate

REFRESH = 2.0  # seconds between two looks with --watch
STILL = 60.0  # seconds without progress after which a training is said to stand still
TO_RUN = "to run"
TAIL = 4096  # bytes of a log that hold its last line


def show(configfile: list[Path], models: Path, schema: Path, watch: bool) -> None:
    """Print what is done, running, queued and failed, and how trainings come on; with `watch` again and again."""
    config = load_config([models, *configfile])
    validate(config, [models, *configfile], schema)
    files = expected(config)
    while True:
        text = overview(config, files, newest_run())
        if not watch:
            print(text)
            return
        print(f"\033[H\033[J{text}", flush=True)
        try:
            time.sleep(REFRESH)
        except KeyboardInterrupt:
            return


def overview(config: Mapping, files: Mapping[str, Mapping[str, str]], run: Run) -> str:
    """All that `vlret status` prints, of what `expected` names and of a run."""
    parts = [headline(run), *table(stages(files, run)), *table(trainings(config))]
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


def last_line(job: Job) -> str:
    """The last line of a job's log; of one that is written over, what stands there now."""
    path = Path(job.log.split(", ")[0])
    if not path.is_file():
        return ""
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL))
        lines = stream.read().decode("utf-8", errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def trainings(config: Mapping) -> list[tuple]:
    """A row a training that has begun and is not done; no rows, not even a head, where there is none."""
    rows = []
    for experiment in trained(config):
        if known := progress(config, experiment.name):
            age = time.time() - known["time"]
            when = "at work" if age < STILL else f"stands still for {clock(age)}"
            mrr = "–" if known["mrr"] is None else f"{known['mrr']:.3f}"
            step, speed = f"{known['step']} of {known['steps']}", f"{known['questions_per_second']:.1f} questions/s"
            numbers = (step, f"{known['epoch']:.1f}", f"{known['loss']:.4f}", mrr, speed, clock(known["seconds"]))
            rows.append((experiment.name, *numbers, when))
    head = ("training", "step", "epoch", "loss", "validation MRR", "speed", "left", "")
    return [head, *rows] if rows else []


def progress(config: Mapping, name: str) -> dict | None:
    """What the training of an experiment last told of itself; None before its first step and once it is done."""
    path = Path("results") / config["dataset"] / "checkpoints" / f"{name}.training" / "progress.json"
    return read_json(path) if path.is_file() else None


def states(config: Mapping, run: Run) -> dict[str, str]:
    """Each experiment of the grid: done, running, failed or to run, by files alone."""
    owners = {path: name for files in expected(config).values() for path, name in files.items()}
    found = {}
    for job in run.jobs.values():
        for name in {owners[path] for path in job.output if path in owners}:
            if (state := run.state(job)) in (RUNNING, FAILED):
                found[name] = state
    for experiment in trained(config):
        if (known := progress(config, experiment.name)) and time.time() - known["time"] < STILL:
            found[experiment.name] = RUNNING
    metrics = {name: Path(path) for path, name in expected(config)["metrics"].items()}
    names = [experiment.name for experiment in grid(config)]
    return {name: DONE if metrics[name].exists() else found.get(name, TO_RUN) for name in names}


def table(rows: Sequence[Sequence[object]]) -> Iterable[str]:
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


def expected(config: Mapping) -> dict[str, dict[str, str]]:
    """What the rules of single experiments are to make: rule -> file -> whose it is."""
    results, rules = Path("results") / config["dataset"], {}
    rows = [(e.name, kind_of(config, e) == "lexical") for e in grid(config)]
    made = [(e.name, kind_of(config, e) == "lexical") for e in trained(config)]
    ablations = config.get("ablations", {"of": "", "kinds": []})
    ablated = [f"{ablations['of']}.{kind}" for kind in ablations["kinds"]]
    names = {
        "train": ("checkpoints/{}", [name for name, lexical in made if not lexical]),
        "embed": ("embeddings/{}", [name for name, lexical in rows if not lexical]),
        "ablate": ("ablations/{}.npy", ablated),
        "join": ("runs/{}.trec", [name for name, lexical in rows if lexical]),
        "search": ("runs/{}.trec", [name for name, lexical in rows if not lexical]),
        "search_ablation": ("runs/{}.trec", ablated),
        "fuse": ("runs/{}.trec", list(config.get("fusions", {}))),
        "metrics": ("metrics/{}.json", [*(name for name, _ in rows), *config.get("fusions", {}), *ablated]),
    }
    for rule, (pattern, owners) in names.items():
        rules[rule] = {f"{results}/{pattern.format(name)}": name for name in owners}
    rules["table"] = {"results/table.tex": "table"}
    return {rule: files for rule, files in rules.items() if files}
