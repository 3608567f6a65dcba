"""`vlret plan`: a readable summary of Snakemake's dry run."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable

from vlret.asked import Asked
from vlret.console import clock
from vlret.experiment import rows
from vlret.planned import NOT_MADE, Plan, Planned, dry_run
from vlret.status import aligned
from vlret.storage import Storage, shown

SHOWN = 3  # names shown per line


def show(asked: Asked, target: str | None = None, jobs: int | None = None) -> None:
    """Print what would run and why, by stage and by row, what it would replace, and how long it may take.

    Parameters
    ----------
    target
        Snakemake's target; by default the table of the config.
    jobs
        Number of parallel jobs; by default the profile's `jobs`, or as many as the cores allow.
    """
    layout = asked.layout()
    target = target or str(layout.made("table"))
    plan = Plan(layout, dry_run(asked, target))
    head = f"{target} of {', '.join(map(str, asked.files()))}: "
    if not plan.jobs:
        print(f"{head}nothing would run, everything is up to date")
        return
    print(f"{head}{len(plan.jobs)} {'job' if len(plan.jobs) == 1 else 'jobs'} would run")
    slots = jobs or (asked.setting("jobs") or [0])[0] or max(1, (os.cpu_count() or 1) // layout.config.compute.threads)
    parts = (
        why(plan),
        stages(plan),
        experiments(plan),
        replaced(plan),
        times(plan, int(slots)),
        space(plan, int(slots)),
    )
    print("\n".join(line for part in parts for line in part))


def why(plan: Plan) -> Iterable[str]:
    """One line per cause: how many jobs it triggers, and which of them directly."""
    direct: dict[str, list[Planned]] = {}
    for job, causes in zip(plan.jobs, plan.causes, strict=True):
        for cause in causes:
            direct.setdefault(cause, []).append(job)
    every = Counter(cause for causes in plan.roots for cause in causes)
    # Missing results come last: other causes explain more.
    named = sorted(direct, key=lambda cause: (cause == NOT_MADE, -every[cause]))
    cells = [(cause, every[cause], _some([job.name for job in direct[cause]])) for cause in named]
    return aligned([("why", "jobs", "first of them"), *cells])


def stages(plan: Plan) -> Iterable[str]:
    """One line per rule, in order of execution: its jobs and the time they may take."""
    found: dict[str, list[int]] = {}
    for row, job in enumerate(plan.jobs):
        found.setdefault(job.rule, []).append(row)
    cells = [
        (rule, len(these), _time(plan.seconds[row] for row in these), _some(map(_of(plan), these)))
        for rule, these in found.items()
    ]
    return aligned([("stage", "jobs", "one after another", "of"), *cells])


def experiments(plan: Plan) -> Iterable[str]:
    """One line per row of the table that would change: which of its jobs run, and why."""
    owned: dict[str, list[int]] = {}
    for row in plan.order:
        wildcards = plan.jobs[row].wildcards
        name = wildcards.get("row") or wildcards.get("fusion") or wildcards.get("run") or wildcards.get("experiment")
        if name:
            name = f"{name}.{wildcards['ablation']}" if "ablation" in wildcards else name
            owned.setdefault(name, []).append(row)
    names = [row.name for row in rows(plan.layout.config)]
    cells = []
    for name in [*(name for name in owned if name not in names), *(name for name in names if name in owned)]:
        rules = dict.fromkeys(plan.jobs[row].rule for row in owned[name])
        causes = dict.fromkeys(cause for row in owned[name] for cause in plan.roots[row])
        shown = [cause for cause in causes if cause != NOT_MADE] or list(causes)
        cells.append((name, ", ".join(rules), _some(shown)))
    return aligned([("row", "would run", "because"), *cells]) if cells else []


def replaced(plan: Plan) -> Iterable[str]:
    """One line per rule with existing results that would be replaced: how many, and their cost."""
    found: dict[str, list[Planned]] = {}
    for row in plan.order:
        job = plan.jobs[row]
        if plan.layout.place(job.outputs[0]).exists():
            found.setdefault(job.rule, []).append(job)
    cells = []
    for rule, jobs in found.items():
        seconds = [plan.last(job) for job in jobs]
        hours = plan.gpu_hours(jobs, seconds)
        shown = f"{hours:.1f}" if hours else ""
        cells.append((rule, len(jobs), _time(seconds), shown, _some(job.outputs[0] for job in jobs)))
    return aligned([("replaces results of", "", "which took", "GPU-hours", "such as"), *cells]) if cells else []


def times(plan: Plan, slots: int) -> list[str]:
    """How long the whole plan may take."""
    unknown = Counter(job.rule for job, seconds in zip(plan.jobs, plan.seconds, strict=True) if seconds is None)
    known = len(plan.jobs) - unknown.total()
    if not known:
        return ["", "time: unknown, since no job of these stages has run here yet"]
    hours = plan.gpu_hours(plan.jobs, plan.seconds)
    least = "at least " if unknown else "about "
    lines = [
        "",
        f"time: {least}{clock(plan.scheduled(slots))} with {slots} at a time; one after another "
        f"{clock(sum(filter(None, plan.seconds)))}, the longest chain {clock(plan.longest())}"
        + (f"; {hours:.1f} GPU-hours" if hours else ""),
    ]
    if unknown:
        missing = ", ".join(f"{number} {rule}" for rule, number in unknown.items())
        lines.append(f"not in it, since none has run here yet: {missing}")
    return lines


def space(plan: Plan, slots: int) -> list[str]:
    """How much disk the plan needs."""
    storage = Storage(plan)
    unknown = Counter(job.rule for job, size in zip(plan.jobs, storage.sizes, strict=True) if size is None)
    if not sum(size or 0 for size in storage.sizes):
        return ["disk: unknown, since no result of these stages is here yet"]
    most, stay = storage.peak(slots)
    free = shutil.disk_usage(plan.layout.place("results") if plan.layout.place("results").exists() else ".").free
    least = "at least " if unknown else "about "
    line = f"disk: {least}{shown(most)} at the peak, of which {shown(stay)} stay; {shown(free)} are free"
    lines = [line + ("; free some, or set embedding.keep to false" if most > free else "")]
    if unknown:
        missing = ", ".join(f"{number} {rule}" for rule, number in unknown.items())
        lines.append(f"not in it, since their sizes are not known yet: {missing}")
    return lines


def _of(plan: Plan) -> Callable[[int], str]:
    return lambda row: " ".join(plan.jobs[row].wildcards.values())


def _some(names: Iterable[str]) -> str:
    """The first names, and the number of the others."""
    every = [name for name in dict.fromkeys(names) if name]
    more = len(every) - SHOWN
    return ", ".join(every[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _time(seconds: Iterable[float | None]) -> str:
    """A sum of seconds; `?` if none is known, with `+` if some are not."""
    every = list(seconds)
    known = [each for each in every if each is not None]
    return clock(sum(known)) + ("" if len(known) == len(every) else "+") if known else "?"
