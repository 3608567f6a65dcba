"""`vlret grid`: every experiment of a config, and what is done."""

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlret.experiment import Experiment, grid, load_config
from vlret.files import InputError
from vlret.jobs import DONE, FAILED, RUNNING, newest_run
from vlret.status import TO_RUN
from vlret.status import states as states_by_files
from vlret.validation import validate

STALE = "stale"


def show(configfile: list[Path], models: Path, schema: Path, status: bool = False) -> None:
    """Print the grid as a table: each experiment, its parts, and its state.

    With `status` it is `done`, `running`, `failed` or `to run`, told by files alone. Otherwise Snakemake itself
    is asked (`--summary`), so that this never disagrees with what it would do: stale is an experiment whose metrics are
    there but would be made again, since its settings, its inputs or the code of its rules changed.
    """
    config = load_config([models, *configfile])
    validate(config, [models, *configfile], schema)
    experiments = grid(config)
    if status:
        print(layout(experiments, states_by_files(config, newest_run()), (DONE, RUNNING, FAILED, TO_RUN)))
    else:
        print(layout(experiments, asked(config, experiments, configfile), (DONE, TO_RUN, STALE)))


def asked(config: Mapping, experiments: list[Experiment], configfile: list[Path]) -> dict[str, str]:
    """What Snakemake says of each experiment's metrics, by name."""
    paths = {f"results/{config['dataset']}/metrics/{e.name}.json": e.name for e in experiments}
    command = [sys.executable, "-m", "snakemake", "--summary", "--quiet", "all", "--nolock"]
    command += ["--configfile", *map(str, configfile)]
    answer = subprocess.run([*command, "--", *paths], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise InputError(f"snakemake --summary failed: {' '.join(answer.stderr.split())}")
    rows = csv.DictReader(answer.stdout.splitlines(), delimiter="\t")
    return {paths[row["output_file"]]: _state(row) for row in rows if row["output_file"] in paths}


def _state(row: Mapping[str, str]) -> str:
    if row["status"] == "missing":
        return TO_RUN
    return DONE if row["plan"] == "no update" else STALE


def layout(experiments: list[Experiment], states: Mapping[str, str], counted: Sequence[str]) -> str:
    """The table as text: name, parts and state in columns, and a last line that counts the states."""
    head = ("experiment", "model", "tuning", "prefix", "pooling", "state")
    rows = [(e.name, e.model, e.tuning, e.prefix, e.pooling, states[e.name]) for e in experiments]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    counts = ", ".join(f"{list(states.values()).count(state)} {state}" for state in counted)
    return "\n".join([*(line.rstrip() for line in lines), f"{len(rows)} experiments: {counts}"])
