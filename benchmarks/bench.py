"""What all benchmarks share: options, the machine, turns of contestants, and how a ratio is printed.

A ratio is one line, `ratio: WHAT: 1.87x PEER`: ours is 1.87 times as fast as the peer. `python benchmarks` runs all and
makes a table of these lines.
"""

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch


def options(
    description: str, others: Mapping[str, dict] | None = None, **sizes: tuple[object, object]
) -> argparse.Namespace:
    """Parse a benchmark's options, set the threads, and print the machine.

    Parameters
    ----------
    description
        The module's docstring.
    others
        Options of this benchmark alone, as arguments of `add_argument`.
    sizes
        Option → its default, and its value with `--small`: a whole number, or several as a list.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    for name, (default, small) in sizes.items():
        several = {"nargs": "+"} if isinstance(default, list) else {}
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{default}; {small} if small", **several)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="compare CPU time, for a busy machine")
    parser.add_argument("--small", action="store_true", help="the smallest sizes, which only show that it runs")
    for name, how in (others or {}).items():
        parser.add_argument(name, **how)
    given = parser.parse_args()
    for name, (default, small) in sizes.items():
        if getattr(given, name) is None:
            setattr(given, name, small if given.small else default)
    torch.set_num_threads(given.threads)
    kind = "CPU time" if given.cpu_time else "wall time"
    print(f"{Path(sys.argv[0]).stem}: {machine()}, {given.threads} threads, {kind}", flush=True)
    return given


def machine() -> str:
    """CPU, cores, and versions, which ratios depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cpu = next(named, platform.processor() or platform.machine())
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, torch {version('torch')}"


def clock(given: argparse.Namespace) -> Callable[[], float]:
    """Seconds of CPU time, of all threads and ended children, or of wall time."""
    return cpu_time if given.cpu_time else time.perf_counter


def cpu_time() -> float:
    both = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(spent.ru_utime + spent.ru_stime for spent in both)


def contest(contestants: Mapping[object, Callable[[], object]], given: argparse.Namespace) -> dict[object, float]:
    """Median seconds of each contestant; they take turns, so that other load affects all alike."""
    now = clock(given)
    times: dict[object, list[float]] = {name: [] for name in contestants}
    for _ in range(given.rounds):
        for name, run in contestants.items():
            start = now()
            run()
            times[name].append(now() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def ratio(what: str, value: float, peer: str) -> None:
    """Print a ratio of speeds, ours to the peer's: more is better."""
    shown = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    print(f"ratio: {what}: {shown}x {peer}", flush=True)
