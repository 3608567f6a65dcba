"""`vlret grid`: every experiment of a config, and what is done."""

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from vlret.experiment import Experiment, grid, load_config
from vlret.files import InputError
from vlret.validation import validate

DONE, TO_RUN, STALE = "done", "to run", "stale"


def show(configfile: list[Path], models: Path, schema: Path) -> None:
    """Print the grid as a table: each experiment, its parts, and `done`, `to run` or `stale`.

    Stale is an experiment whose metrics are there but would be made again, since its settings, its inputs or the code
    of its rules changed. Snakemake itself is asked (`--summary`), so that this never disagrees with what it would do.
    """
    config = load_config([models, *configfile])
    validate(config, [models, *configfile], schema)
    experiments = grid(config)
    states = status(config, experiments, configfile)
    print(layout(experiments, states))


def status(config: Mapping, experiments: list[Experiment], configfile: list[Path]) -> dict[str, str]:
    """What Snakemake says of each experiment's metrics, by name."""
    paths = {f"results/{config['dataset']}/metrics/{e.name}.json": e.name for e in experiments}
    command = [sys.executable, "-m", "snakemake", "--summary", "--quiet", "all", "--nolock"]
    command += ["--configfile", *map(str, configfile)]
    asked = subprocess.run([*command, "--", *paths], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise InputError(f"snakemake --summary failed: {' '.join(asked.stderr.split())}")
    rows = csv.DictReader(asked.stdout.splitlines(), delimiter="\t")
    return {paths[row["output_file"]]: _state(row) for row in rows if row["output_file"] in paths}


def _state(row: Mapping[str, str]) -> str:
    if row["status"] == "missing":
        return TO_RUN
    return DONE if row["plan"] == "no update" else STALE


def layout(experiments: list[Experiment], states: Mapping[str, str]) -> str:
    """The table as text: name, parts and state in columns, and a last line that counts the states."""
    head = ("experiment", "model", "tuning", "prefix", "pooling", "state")
    rows = [(e.name, e.model, e.tuning, e.prefix, e.pooling, states[e.name]) for e in experiments]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    counts = ", ".join(f"{list(states.values()).count(state)} {state}" for state in (DONE, TO_RUN, STALE))
    return "\n".join([*(line.rstrip() for line in lines), f"{len(rows)} experiments: {counts}"])
