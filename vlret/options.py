"""Options of the `vlret` command, and what several of its verbs share."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def as_object(text: str) -> object:
    """The value of an option that is JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from error


def named_path(text: str) -> tuple[str, Path]:
    """The name and the path of an option NAME=PATH."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    return name, Path(path)


class _Mapping(argparse.Action):
    """Several NAME=PATH as one mapping."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, dict(values))


@dataclass(frozen=True)
class Option:
    """One option of a verb: its name is the function's argument."""

    name: str
    help: str
    type: Callable[[str], object] = Path
    nargs: str | None = None
    choices: Sequence[str] | None = None
    required: bool = True

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Declare the option; one of NAME=PATH is a mapping, an empty one by default."""
        named = {"action": _Mapping, "default": {}} if self.type is named_path else {}
        parser.add_argument(
            "--" + self.name.replace("_", "-"),
            help=self.help,
            type=self.type,
            nargs=self.nargs,
            choices=self.choices,
            required=self.required,
            **named,
        )


@dataclass(frozen=True)
class Verb:
    """`vlret STAGE NAME` calls `function` ("module:function") with its options."""

    stage: str
    name: str
    function: str
    help: str
    options: list[Option] = field(default_factory=list)


SPLIT = Option("split", "which questions", str, choices=("train", "validation", "test"))
QUESTIONS = Option("questions", "table of questions")
LIMITS = Option("limits", "most problems of each kind, as JSON", as_object)
UNREADABLE = Option("unreadable", "how many images may be missing or broken", int)
LINK = Option("link", "what names a question's articles", str, choices=("wikidata", "provenance"))
ARTICLES = Option("articles", "table of articles")
PASSAGES = Option("passages", "table of passages")
NORMALISED = Option("normalised", "normalised texts of the passages")
SETTINGS = Option("settings", "settings as JSON", as_object)
SEED = Option("seed", "seed of all that is random", int)
DEPTH = Option("k", "passages kept a question", int)
TAG = Option("tag", "name of the run", str)
OUT = Option("out", "what to write")
WORKERS = Option("workers", "processes at work; what is written does not depend on how many", int)
REPORT = Option("report", "JSON file of what was counted")
PROFILE = Option("profile", "folder of the profile (slurm)", required=False)
WEIGHTS = Option(
    "weights", "NAME=PATH of published weights: text, joint, passage", named_path, nargs="*", required=False
)
FEATURES = [
    Option("question_features", "feature store of the questions (none for a text model)", required=False),
    Option("article_features", "feature store of the articles (none for a text model)", required=False),
]
CORPUS = [WEIGHTS, QUESTIONS, PASSAGES, ARTICLES, *FEATURES]
BATCH = Option("batch_size", "texts or images a batch", int)
