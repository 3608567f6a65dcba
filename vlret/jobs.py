"""Parse the log of a Snakemake run into the states of its jobs."""

import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

LOGS = Path(".snakemake/log")
DONE, RUNNING, QUEUED, FAILED = "done", "running", "queued", "failed"

STARTED = re.compile(r"\s*(?:local)?(?:rule|checkpoint) (\S+):$")
FIELD = re.compile(r"\s+(jobid|output|log): (.*)")
FINISHED = re.compile(r"Finished jobid: (\d+) ")
SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid (\d+)")
TAIL = 4096  # bytes of a log that hold its last line
PATH = re.compile(r"Path\('([^']*)'\)")
RESTARTED = re.compile(r"Trying to restart job (\d+)\.")


@dataclass
class Job:
    """A job of a run: rule, number, outputs, log and state."""

    rule: str
    number: str
    output: list[str]
    log: str
    state: str
    since: float
    slurm: str = ""

    @property
    def started(self) -> bool:
        """Whether it runs; a Slurm job does once it writes its log."""
        return self.state == RUNNING and (not self.slurm or _changed(self.log) >= self.since - 1)


@dataclass
class Run:
    """A Snakemake run, as told by its log.

    Attributes
    ----------
    path
        The log; None if nothing was run yet.
    host
        Where Snakemake was started.
    command
        The words of its command line.
    configfiles
        The config files that it read.
    totals
        Rule -> number of its jobs in the run.
    jobs
        By number.
    ended
        Whether Snakemake exited by itself.
    """

    path: Path | None = None
    host: str = ""
    command: list[str] = field(default_factory=list)
    configfiles: list[str] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    ended: bool = False

    @property
    def alive(self) -> bool:
        """Whether Snakemake is running; on another host it is assumed to be until its log ends."""
        if self.path is None or self.ended:
            return False
        return self.host != platform.node() or _opened(self.path)

    def counts(self, rule: str) -> Counter:
        """Count the jobs of a rule by state."""
        return Counter(self.state(job) for job in self.jobs.values() if job.rule == rule)

    def state(self, job: Job) -> str:
        """A job's state; it counts as queued until Slurm starts it, and again once Snakemake was killed."""
        if job.state != RUNNING:
            return job.state
        return RUNNING if job.started and self.alive else QUEUED


def newest_run(logs: Path = LOGS) -> Run:
    """The newest run in a folder of Snakemake logs that was not a dry run; an empty `Run` if there is none."""
    for path in sorted(logs.glob("*.snakemake.log"), reverse=True):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "\nJob stats:\n" in text and "This was a dry-run" not in text:
            return read_run(path, text)
    return Run()


def read_run(path: Path, text: str) -> Run:
    """Parse the log of a run."""
    run, lines = Run(path), _without_quoted_logs(text.splitlines())
    rule, failing, entry, now = "", False, {}, 0.0
    for line in lines:
        if line == "Job stats:" and not run.totals:
            run.totals = _totals(lines)
        elif line.startswith("  Host: "):
            run.host = run.host or line.split()[1]
        elif line.startswith("  Command: "):
            run.command = run.command or line.split()[1:]
        elif line.startswith("  Config file(s): "):
            run.configfiles = run.configfiles or PATH.findall(line)
        elif line.startswith("[") and (at := _time(line)):
            now = at
        elif line.startswith("Complete log"):
            run.ended = True
        elif line.startswith(("Error in ", "group job ")):
            failing, entry = line.startswith("Error in "), {}
            rule = line.removeprefix("Error in rule ").rstrip(":")
        elif found := STARTED.match(line):
            failing, rule, entry = failing and line[0] == " ", found[1], {}
        elif found := FIELD.match(line):
            entry[found[1]] = found[2]
            if failing and "jobid" in entry and entry["jobid"] in run.jobs:
                run.jobs[entry["jobid"]].state = FAILED
            elif not failing and found[1] == "jobid":
                output = entry.get("output", "").split(", ")
                run.jobs[found[2]] = Job(rule, found[2], output, entry.get("log", ""), RUNNING, now)
        elif (found := FINISHED.match(line)) and found[1] in run.jobs:
            run.jobs[found[1]].state = DONE
        elif (found := SUBMITTED.match(line)) and found[1] in run.jobs:
            run.jobs[found[1]].slurm = found[2]
        elif (found := RESTARTED.match(line)) and found[1] in run.jobs:
            run.jobs[found[1]].state = QUEUED
    return run


def last_line(job: Job) -> str:
    """The last line of a job's log; of a progress bar, its current state."""
    path = Path(job.log.split(", ")[0])
    if not path.is_file():
        return ""
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL))
        lines = stream.read().decode("utf-8", errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _without_quoted_logs(lines: Iterable[str]) -> Iterator[str]:
    """Drop the quoted logs of failed jobs, each between two lines of `=`; they may be Snakemake logs themselves."""
    before, quoting = "", []
    for line in lines:
        ruled = line and not line.strip("=")
        if ruled and before.startswith("Logfile ") and before.endswith(":"):
            quoting.append(line)
        elif quoting and line == quoting[-1]:
            quoting.pop()
        elif not quoting:
            yield line
        before = line


def _totals(lines: Iterable[str]) -> dict[str, int]:
    """Parse the table after `Job stats:`."""
    totals = {}
    for line in lines:
        cells = line.split()
        if len(cells) == 2 and cells[1].isdigit():
            totals[cells[0]] = int(cells[1])
        if not cells or cells[0] == "total":
            break
    totals.pop("total", None)
    return totals


def _time(line: str) -> float | None:
    """Parse a time stamp such as `[Sun Nov 22 07:47:27 2026]`."""
    try:
        return time.mktime(time.strptime(line.strip("[]\n"), "%a %b %d %H:%M:%S %Y"))
    except ValueError:
        return None


def _changed(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _opened(path: Path) -> bool:
    """Whether a process of this host has the file open."""
    wanted = path.stat()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            found = link.stat()
        except OSError:  # the process has ended, or is another user's
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False
