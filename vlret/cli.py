"""The `vlret` command: parses, calls one function of one stage, prints errors a person can act on.

A stage is imported when one of its verbs runs, so that `vlret --help` loads neither torch nor FAISS.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vlret import __version__
from vlret.files import InputError
from vlret.verbs import VERBS

VIEWS = ("grid", "status", "model")  # stages that only print


def parser() -> argparse.ArgumentParser:
    """The command line: `vlret grid`, `vlret model describe` and `vlret STAGE VERB --option value`."""
    top = argparse.ArgumentParser(prog="vlret", description="Knowledge-based visual question answering, retrieval.")
    top.add_argument("--version", action="version", version=f"vlret {__version__}")
    commands = top.add_subparsers(dest="stage", required=True, metavar="STAGE")
    grid = commands.add_parser("grid", help="list the experiments of a config and what is done")
    _add_config(grid)
    grid.add_argument("--status", action="store_true", help="by files alone, in a moment: also running and failed")
    grid.set_defaults(function="vlret.grid:show")
    status = commands.add_parser("status", help="what a run has done and is doing, from any terminal")
    _add_config(status)
    status.add_argument("--watch", action="store_true", help="again every 2 s, until Ctrl-C")
    status.set_defaults(function="vlret.status:show")
    model = commands.add_parser("model", help="what an experiment's model is made of")
    describe = model.add_subparsers(dest="verb", required=True, metavar="VERB").add_parser(
        "describe", help="its parts, its parameters (total, trained, added), the size of its checkpoint"
    )
    describe.add_argument("experiment", help="model_tuning_prefix_pooling, of the config's grid")
    _add_config(describe)
    describe.set_defaults(function="vlret.describe:describe")
    stages: dict[str, argparse._SubParsersAction] = {}
    for verb in VERBS:
        if verb.stage not in stages:
            about = importlib.import_module(f"vlret.{verb.stage}").__doc__
            stage = commands.add_parser(verb.stage, help=about, description=about)
            stages[verb.stage] = stage.add_subparsers(dest="verb", required=True, metavar="VERB")
        sub = stages[verb.stage].add_parser(verb.name, help=verb.help, description=verb.help)
        for option in verb.options:
            option.add_to(sub)
        sub.set_defaults(function=verb.function)
    return top


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile", nargs="+", help="as Snakemake's", type=Path, default=[Path("config/config.yaml")]
    )
    parser.add_argument("--models", help="what the models are", type=Path, default=Path("config/models.yaml"))
    parser.add_argument("--schema", help="of configs", type=Path, default=Path("config/schemas/config.schema.yaml"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 1 after an `InputError`, which is printed as one line."""
    given = vars(parser().parse_args(arguments))
    module, function = given.pop("function").split(":")
    views = given.pop("stage") in VIEWS
    given.pop("verb", None)
    try:
        getattr(importlib.import_module(module), function)(**given)
    except InputError as error:
        print(f"vlret: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        if not views:
            raise
        # `| head` has seen enough. What is left to be flushed goes nowhere, as the manual of Python's `signal` has it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
