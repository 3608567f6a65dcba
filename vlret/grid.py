"""`vlret grid`: every row of a config's table, and its state."""

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence

from vlret.asked import Asked
from vlret.experiment import Row, rows
from vlret.files import InputError
from vlret.jobs import DONE, FAILED, RUNNING, newest_run
from vlret.layout import Layout
from vlret.status import STALE, TO_RUN, state_of, states


def show(asked: Asked, status: bool = False) -> None:
    """Print the grid as a table: each row, its parts, and its state.

    With `status` the state is `done`, `stale`, `running`, `failed` or `to run`, from files only. Otherwise
    `snakemake --summary` is queried too, so that the answer agrees with what Snakemake would do: a row is stale if its
    metrics exist but would be made again, or were made with other settings.
    """
    layout = asked.layout()
    every = rows(layout.config)
    if status:
        print(listing(every, states(layout, newest_run()), (DONE, STALE, RUNNING, FAILED, TO_RUN)))
    else:
        print(listing(every, planned(layout, every, asked), (DONE, TO_RUN, STALE)))


def planned(layout: Layout, every: Sequence[Row], asked: Asked) -> dict[str, str]:
    """State of each row's metrics by name, from Snakemake's plan and the notes."""
    paths = {str(layout.metrics(row.name)): row.name for row in every}
    command = [sys.executable, "-m", "snakemake", "--summary", "--quiet", "all", "--nolock"]
    command += [*asked.words(), "--", *paths]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise InputError(f"snakemake --summary failed: {' '.join(answer.stderr.split())}")
    lines = csv.DictReader(answer.stdout.splitlines(), delimiter="\t")
    plans = {line["output_file"]: line["plan"] for line in lines if line["output_file"] in paths}
    found = {}
    for path, name in paths.items():
        state = state_of(layout, layout.metrics(name))
        found[name] = STALE if state == DONE and plans[path] != "no update" else state
    return found


def listing(every: Sequence[Row], states: Mapping[str, str], counted: Sequence[str]) -> str:
    """The table as text: name, parts and state in columns; the last line counts the states."""
    columns = ("name", "model", "tuning", "prefix", "pooling")
    cells = [(*(row.columns()[column] for column in columns), states[row.name]) for row in every]
    head = ("row", *columns[1:], "state")
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *cells)]
    counts = ", ".join(f"{list(states.values()).count(state)} {state}" for state in counted)
    return "\n".join([*(line.rstrip() for line in lines), f"{len(every)} rows: {counts}"])
