"""The `vlret` command: parses arguments, calls one function of a stage, prints errors that users can fix.

A stage is imported when one of its verbs runs, so that `vlret --help` loads neither torch nor FAISS.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vlret import __version__
from vlret.disk import disk_errors
from vlret.files import InputError
from vlret.signatures import docstring_of, signature_of
from vlret.verbs import VERBS, Verb

CONFIG = {"configfile": Path, "config": str, "profile": str}  # Snakemake's options that views also take
# The first of several processes of torchrun or Slurm that run one command: only it writes the note.
FIRST = {"RANK": "0", "SLURM_NODEID": "0"}


def parser() -> argparse.ArgumentParser:
    """The parser of views (`vlret grid`, `vlret model describe`), which also lists the verbs without options."""
    top = argparse.ArgumentParser(prog="vlret", description="Knowledge-based visual question answering, retrieval.")
    top.add_argument("--version", action="version", version=f"vlret {__version__}")
    commands = top.add_subparsers(dest="stage", required=True, metavar="STAGE")
    plan = commands.add_parser("plan", help="what Snakemake would run, why, and how long it may take")
    _add_config(plan)
    plan.add_argument("--jobs", help="number of parallel jobs", type=int)
    plan.add_argument("target", nargs="?", help="as for Snakemake (default: the table)")
    plan.set_defaults(function="vlret.plan:show")
    grid = commands.add_parser("grid", help="list the experiments of a config and what is done")
    _add_config(grid)
    grid.add_argument(
        "--status", action="store_true", help="only look at files, which is fast; also shows running and failed"
    )
    grid.set_defaults(function="vlret.grid:show")
    status = commands.add_parser("status", help="the progress of a run, from any terminal")
    _add_config(status)
    status.add_argument("--watch", action="store_true", help="refresh every 2 s, until Ctrl-C")
    status.set_defaults(function="vlret.status:show")
    table = commands.add_parser("table", help="the table of the finished rows")
    _add_config(table)
    table.add_argument("--out", help="where to write it (default: results/<table>.partial.tex)", type=Path)
    table.set_defaults(function="vlret.partial:show")
    model = commands.add_parser("model", help="the parts of an experiment's model")
    describe = model.add_subparsers(dest="verb", required=True, metavar="VERB").add_parser(
        "describe", help="its parts, its parameters (total, trained, added), the size of its checkpoint"
    )
    describe.add_argument("experiment", help="model_tuning_prefix_pooling, of the config's grid")
    _add_config(describe)
    describe.set_defaults(function="vlret.describe:describe")
    stages: dict[str, argparse._SubParsersAction] = {}
    for verb in VERBS:
        if verb.stage not in stages:
            about = docstring_of(f"vlret.{verb.stage}")
            stage = commands.add_parser(verb.stage, help=about, description=about)
            stages[verb.stage] = stage.add_subparsers(dest="verb", required=True, metavar="VERB")
        stages[verb.stage].add_parser(verb.name, help=signature_of(verb.function).summary.replace("%", "%%"))
    check = stages["data"].add_parser("check", help="list all mistakes in your own files before a run")
    _add_config(check)
    check.set_defaults(function="vlret.check:check")
    return top


def _add_config(parser: argparse.ArgumentParser) -> None:
    for name, kind in CONFIG.items():
        parser.add_argument(f"--{name}", nargs="+", help="as for Snakemake", type=kind, action="extend", default=[])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb or view; print an `InputError` as one line and return exit code 1."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    verb = next((verb for verb in VERBS if [verb.stage, verb.name] == given[:2]), None)
    try:
        if verb:
            run(verb, given[2:])
            return 0
        return view(vars(parser().parse_args(given)))
    except InputError as error:
        print(f"vlret: error: {error}", file=sys.stderr)
        return 1


def run(verb: Verb, arguments: Sequence[str]) -> None:
    """Call a verb's function with parsed arguments, and write the notes beside its output and report."""
    from vlret.arguments import parse  # imports Pydantic, which takes longer than `vlret --help`
    from vlret.made import identity, note, version_of, write_note

    signature, function = signature_of(verb.function), _function(verb.function)
    values, left = parse(str(verb), function, signature, arguments)
    values |= left
    settings, inputs = identity(signature, values)
    with disk_errors(values.get("out")):
        function(**values)
        first = all(os.environ.get(name, number) == number for name, number in FIRST.items())
        made = [values.get(name) for name in ("out", "report")] if verb.result and first else []
        for path in made:
            if path and path.exists():
                write_note(path, note(str(verb), version_of(str(verb)), settings, inputs))


def view(given: Mapping[str, object]) -> int:
    """Run a view and return the exit code; tolerates a closed pipe, as with `| head`."""
    from vlret.asked import Asked  # imports Pydantic

    options = {name: value for name, value in given.items() if name not in ("stage", "verb", "function", *CONFIG)}
    try:
        with disk_errors(options.get("out")):
            _function(given["function"])(Asked(**{name: given[name] for name in CONFIG}), **options)
    except BrokenPipeError:
        # Discard what is flushed at exit, as recommended in the documentation of `signal`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _function(name: str) -> Callable:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
