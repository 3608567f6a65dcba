"""Experiments: their names, the grid that a config declares, and what decides each."""

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path

import yaml

from vlret.files import InputError

SPLITS = ("train", "validation", "test")

# Ways to tune an encoder: those that train what is there, and those that add to it (`vlret.tuning.methods`).
PLAIN = ["zs", "full", "bitfit", "projection"]
ADDING = ["prompt", "adapter", "adapter+projection", "compacter", "lradapter", "hyperformer", "lora", "ia3"]
TEXT_POOLINGS = ["1token", "avg", "avg-all", "eos", "decoder", "sum-last-N", "concat-last-N"]

# What each kind of model can be combined with; None stands for every prefix of the config, N for a number.
SENSIBLE = {
    "lexical": {"tuning": ["zs"], "prefix": ["none"], "pooling": ["none"]},
    "image": {"tuning": ["zs"], "prefix": ["none"], "pooling": ["avg", "concat"]},
    "dual": {"tuning": ["zs"], "prefix": ["none"], "pooling": ["1token", "avg"]},
    "text": {"tuning": [*PLAIN, *ADDING], "prefix": None, "pooling": TEXT_POOLINGS},
    "joint": {"tuning": [*PLAIN, "visual", *ADDING], "prefix": None, "pooling": TEXT_POOLINGS},
}

# What of a dataset each kind of task reads (`vlret.training.tasks`); of a model of text alone no features.
IMAGES = ("question_features", "article_features")
TASK_PARTS = {
    "viquae": ("questions", "passages", "articles", *IMAGES, "qrels"),
    "triviaqa": ("questions", "passages", "qrels"),
    "match_image": ("questions", "articles", *IMAGES),
    "match_article": ("questions", "passages", "articles", *IMAGES),
}
# What of a training's config says where it runs.
PLACES = ("gpus", "nodes")


@dataclass(frozen=True, order=True)
class Experiment:
    """One model, tuned one way, with one prefix and one pooling; its name names every file it makes."""

    model: str
    tuning: str
    prefix: str
    pooling: str

    @property
    def name(self) -> str:
        """`{model}_{tuning}_{prefix}_{pooling}`."""
        return f"{self.model}_{self.tuning}_{self.prefix}_{self.pooling}"

    @classmethod
    def parse(cls, name: str) -> "Experiment":
        """Read an experiment's name; `InputError` if it has not four parts of `[a-z0-9+-]`."""
        parts = name.split("_")
        if len(parts) != len(fields(cls)) or not all(re.fullmatch(r"[a-z0-9][a-z0-9+-]*", part) for part in parts):
            raise InputError(f"experiment {name!r}: expected model_tuning_prefix_pooling, each of a-z, 0-9, + and -")
        return cls(*parts)


def load_config(paths: Iterable[Path]) -> dict:
    """Read YAML files and merge them, later over earlier, mappings key by key (as Snakemake merges them)."""
    config: dict = {}
    for path in paths:
        try:
            part = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except yaml.YAMLError as error:
            raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(part, Mapping):
            raise InputError(f"{path}: expected a mapping of keys, found {type(part).__name__}")
        config = merge(config, part)
    return config


def merge(low: Mapping, high: Mapping) -> dict:
    """`low` with everything that `high` says differently, mappings key by key."""
    merged = copy.deepcopy(dict(low))
    for key, value in high.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def knowledge_base(config: Mapping, dataset: str) -> str:
    """The dataset whose articles and passages the questions of a dataset are about: often its own."""
    return config["datasets"][dataset].get("knowledge_base", dataset)


def kind_of(config: Mapping, experiment: Experiment) -> str:
    """The kind of an experiment's model: lexical, image, text or joint."""
    return config["models"][experiment.model]["kind"]


def nonsense(experiment: Experiment, config: Mapping) -> str | None:
    """Why an experiment makes no sense, or None if it does."""
    if experiment.model not in config["models"]:
        return f"unknown model; known: {', '.join(sorted(config['models']))}"
    kind, head = kind_of(config, experiment), config["models"][experiment.model].get("head", {})
    recipe = pretraining_of(config, experiment)
    if recipe and kind not in ("text", "joint"):
        return f"models.{experiment.model}.pretraining: there is nothing to train in a model of kind {kind}"
    before = recipe and tuning_of(config, recipe["tuning"])
    if before and before["method"] not in SENSIBLE[kind]["tuning"][1:]:
        return f"training.pretraining: tuning {recipe['tuning']!r} does not train a model of kind {kind}"
    if before and before["method"] in ADDING and experiment.tuning not in ("zs", recipe["tuning"]):
        return f"tuning {experiment.tuning!r}: pre-training {recipe['tuning']} adds parts that it has not"
    method = tuning_of(config, experiment.tuning)["method"]
    if "projection" in method and not head.get("projection"):
        return f"tuning {experiment.tuning!r} trains a head, and models.{experiment.model} has none"
    for part, allowed in SENSIBLE[kind].items():
        allowed = list(config["prefixes"]) if allowed is None else allowed
        value = method if part == "tuning" else getattr(experiment, part)
        if re.sub(r"(?<=-last-)[1-9]\d*$", "N", value) not in allowed:
            return f"{part} {value!r} does not go with a model of kind {kind}: {', '.join(allowed)}"
    if experiment.pooling == "decoder" and config["models"][experiment.model]["text"]["architecture"] == "bert":
        return "pooling 'decoder': BERT has no decoder"
    return None


def grid(config: Mapping) -> list[Experiment]:
    """Every experiment of a config, in the order that it is declared, each once, without combinations of no sense."""
    exclude = config["grid"].get("exclude", [])
    chosen = [e for e in every_product(config) if not any(matches(e, block) for block in exclude)]
    chosen += [Experiment.parse(name) for name in config["grid"].get("include", [])]
    return list(dict.fromkeys(chosen))


def every_product(config: Mapping) -> list[Experiment]:
    """The products of a grid before anything is excluded or included, without combinations of no sense."""
    blocks = config["grid"]["product"]
    parts = [[listed(block[field.name]) for field in fields(Experiment)] for block in blocks]
    every = [Experiment(*combination) for block in parts for combination in product(*block)]
    return [experiment for experiment in every if nonsense(experiment, config) is None]


def matches(experiment: Experiment, block: Mapping) -> bool:
    """Whether an experiment has the parts that a block of `grid.exclude` names."""
    return all(getattr(experiment, part) in listed(values) for part, values in block.items())


def listed(value: str | list[str]) -> list[str]:
    """A part of a block of the grid: one name or several, as a list."""
    return [value] if isinstance(value, str) else list(value)


def weights_source(weights: Mapping) -> str:
    """What has to be there before weights can be read: a package, a repository, or a file of the user's."""
    if "repository" in weights:
        return f"results/downloads/hub/{weights['repository']}/{weights['revision']}"
    return f"results/downloads/{weights['package']}" if "package" in weights else weights["path"]


def weights_file(weights: Mapping) -> str:
    """Where the weights themselves are: a file or a folder of that source."""
    source = weights_source(weights)
    return f"{source}/{weights['path']}" if "package" in weights else source


def feature_settings(config: Mapping, backbone: str) -> dict:
    """All that decides what a backbone's features are, and nothing else."""
    entry = {key: value for key, value in config["backbones"][backbone].items() if key != "weights"}
    how = {key: config["features"][key] for key in ("batch_size", "dtype")}
    return {**how, "backbone": entry, "threads": config["compute"]["threads"]}


def model_weights(model: Mapping) -> dict[str, Mapping]:
    """The entries of published weights of a model: `text`, and where it has them `passage` and `joint`."""
    text = model.get("text", {})
    named = {"text": text.get("weights"), "passage": text.get("passage"), "joint": text.get("joint")}
    return {name: entry for name, entry in named.items() if entry}


def read_weights(config: Mapping, experiment: Experiment) -> dict[str, tuple[str, str]]:
    """All that an experiment's model is built from, by name: what has to be there, and where in it the weights are.

    Published weights, and under `start` the checkpoint of the experiment that it goes on from.
    """
    published = model_weights(config["models"][experiment.model])
    files = {name: (weights_source(entry), weights_file(entry)) for name, entry in published.items()}
    if start := settings(config, experiment).get("training", {}).get("start"):
        files["start"] = (f"results/{config['dataset']}/checkpoints/{start}",) * 2
    return files


def settings(config: Mapping, experiment: Experiment) -> dict:
    """All that decides what an experiment's encoder is and how it is trained, and nothing else.

    A change of any value here re-trains the experiment, so nothing that other experiments own may enter.
    """
    tokens, model = config["embedding"], dict(config["models"][experiment.model])
    model.pop("pretraining", None)
    tuning, training = _tuning_and_training(config, experiment)
    values = {
        "name": experiment.name,
        "model": model,
        "tuning": tuning,
        "prefix": config["prefixes"][experiment.prefix],
        "pooling": experiment.pooling,
        "tokens": {"question": tokens["question_tokens"], "passage": tokens["passage_tokens"]},
        "seed": config["seed"],
        "threads": config["compute"]["threads"],
    }
    if training:
        values["training"] = {key: value for key, value in training.items() if key not in PLACES}
    return values


def processes(config: Mapping, experiment: Experiment) -> dict[str, int]:
    """How many `gpus` a node, a process each, and how many `nodes` an experiment is trained on; 1 where not said.

    They decide how a batch is shared, not what is learned, and are not among the `settings`.
    """
    training = _tuning_and_training(config, experiment)[1]
    return {key: training.get(key, 1) for key in PLACES}


def tuning_of(config: Mapping, name: str) -> dict:
    """The method of a part `tuning`, with its settings; a variant has a method's, some of them changed."""
    variant = config["tuning"].get("variants", {}).get(name, {"method": name})
    return {"method": variant["method"], **config["tuning"].get(variant["method"], {}), **variant}


def _tuning_and_training(config: Mapping, experiment: Experiment) -> tuple[dict, dict]:
    """How an experiment's encoder is tuned, and all that its training is told; nothing where nothing is trained.

    Defaults, what the method changes, what pre-training does or leaves behind, what the experiment changes.
    """
    training, recipe = config["training"], pretraining_of(config, experiment)
    tuning = tuning_of(config, recipe["tuning"] if recipe and experiment.tuning == "zs" else experiment.tuning)
    if tuning["method"] == "zs":
        return tuning, {}
    after = {}
    if recipe and experiment.tuning == "zs":
        after = {key: value for key, value in recipe.items() if key != "tuning"}
    elif recipe:
        after = {"start": replace(experiment, tuning="zs").name}
    tuned = training.get("tuning", {})
    own = training.get("experiments", {}).get(experiment.name, {})
    merged = {
        **training["defaults"],
        **tuned.get(tuning["method"], {}),
        **tuned.get(experiment.tuning, {}),
        **after,
        **own,
    }
    tasks = {
        name: {key: value for key, value in entry.items() if (key, value) != ("dataset", config["dataset"])}
        for name, entry in merged["tasks"].items()
    }
    return tuning, {**merged, "tasks": tasks}


def pretraining_of(config: Mapping, experiment: Experiment) -> Mapping | None:
    """How an experiment's model is pre-trained before it is tuned; None where published weights are all there is.

    Its zero-shot experiment is the pre-trained model, and every other one starts from that one's checkpoint.
    """
    name = config["models"][experiment.model].get("pretraining")
    return None if name is None else config["training"]["pretraining"][name]


def trained(config: Mapping) -> list[Experiment]:
    """The grid, and the pre-trainings that experiments of it start from."""
    chosen = grid(config)
    starts = [replace(experiment, tuning="zs") for experiment in chosen if pretraining_of(config, experiment)]
    return list(dict.fromkeys([*chosen, *starts]))


def task_parts(training: Mapping, dataset: str | None = None) -> list[str]:
    """What of a dataset the tasks of a training read: tables, stores, `qrels`, and `negatives.MINER` of each miner.

    `dataset` is one that tasks name; None stands for the evaluated one.
    """
    asked: dict[str, None] = {}
    positives = training.get("positives", "judged")
    for entry in training.get("tasks", {}).values():
        if entry.get("dataset") == dataset:
            asked |= dict.fromkeys(TASK_PARTS[entry["kind"]])
            if "qrels" in TASK_PARTS[entry["kind"]]:
                mined = [*entry.get("negatives", training["negatives"]), *([positives] * (positives != "judged"))]
                asked |= {f"negatives.{miner}": None for miner in mined}
    return list(asked)


def miners(training: Mapping, dataset: str | None = None) -> list[str]:
    """The miners that a training asks for negatives and positives of a dataset; none for a zero-shot one."""
    parts = task_parts(training, dataset)
    return [part.removeprefix("negatives.") for part in parts if part.startswith("negatives.")]


def mined_experiment(miner: str) -> str | None:
    """The experiment whose run a miner reads: that of `model.minilm_zs_none_avg`; None for `bm25` and such."""
    return miner.partition(".")[2] or None
