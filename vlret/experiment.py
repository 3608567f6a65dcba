"""Experiments: their names, the grid that a config declares, and what decides each."""

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
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
        return "_".join(asdict(self).values())

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


def miners(training: Mapping) -> list[str]:
    """The miners that a training needs, of negatives and of positives; none for a zero-shot one, which has no keys."""
    positives = training.get("positives", "judged")
    return list(dict.fromkeys([*training.get("negatives", ()), *([] if positives == "judged" else [positives])]))


def mined_experiment(miner: str) -> str | None:
    """The experiment whose run a miner reads: that of `model.minilm_zs_none_avg`; None for `bm25` and such."""
    return miner.partition(".")[2] or None


def kind_of(config: Mapping, experiment: Experiment) -> str:
    """The kind of an experiment's model: lexical, image, text or joint."""
    return config["models"][experiment.model]["kind"]


def nonsense(experiment: Experiment, config: Mapping) -> str | None:
    """Why an experiment makes no sense, or None if it does."""
    if experiment.model not in config["models"]:
        return f"unknown model; known: {', '.join(sorted(config['models']))}"
    kind, head = kind_of(config, experiment), config["models"][experiment.model].get("head", {})
    if "projection" in experiment.tuning and not head.get("projection"):
        return f"tuning {experiment.tuning!r} trains a head, and models.{experiment.model} has none"
    for part, allowed in SENSIBLE[kind].items():
        allowed = list(config["prefixes"]) if allowed is None else allowed
        value = getattr(experiment, part)
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
    tokens = config["embedding"]
    values = {
        "name": experiment.name,
        "model": config["models"][experiment.model],
        "tuning": {"method": experiment.tuning, **config["tuning"].get(experiment.tuning, {})},
        "prefix": config["prefixes"][experiment.prefix],
        "pooling": experiment.pooling,
        "tokens": {"question": tokens["question_tokens"], "passage": tokens["passage_tokens"]},
        "seed": config["seed"],
        "threads": config["compute"]["threads"],
    }
    if experiment.tuning != "zs":
        training = config["training"]
        method = training.get("tuning", {}).get(experiment.tuning, {})
        own = training.get("experiments", {}).get(experiment.name, {})
        values["training"] = {**training["defaults"], **method, **own}
    return values
