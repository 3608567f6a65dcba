"""Experiments: their names, the grid that a config declares, and the config's validation."""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

import jsonschema
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


def validate(config: Mapping, files: Sequence[Path], schema: Path) -> None:
    """Check a whole config before anything runs.

    Parameters
    ----------
    config
        The merged config, `config/models.yaml` included.
    files
        The files that it was merged from, the last over the first: a message names the one that holds the field.
    schema
        The JSON schema, as YAML.

    Raises
    ------
    InputError
        One line with the file, the field and what may stand there.
    """
    validator = jsonschema.Draft202012Validator(yaml.safe_load(Path(schema).read_text(encoding="utf-8")))
    error = jsonschema.exceptions.best_match(validator.iter_errors(config))
    message = error and _explain(error)
    for problem in (_unknown_names, _split_shares, _ranges, _columns, _rows, _trainings):
        message = message or problem(config)
    if message:
        raise InputError(f"{_holder(message, files)}: {message}")


def _holder(message: str, files: Sequence[Path]) -> str:
    """The last file that has the key which a message begins with, or all where none has it."""
    key = re.match(r"top level: unknown key '([^']+)'|([^.:]+)", message)
    holders = [path for path in files if (key.group(1) or key.group(2)) in load_config([path])]
    return str(holders[-1]) if holders else " + ".join(map(str, files))


def _explain(error: jsonschema.ValidationError) -> str:
    field = ".".join(str(part) for part in error.absolute_path) or "top level"
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))
        return f"{field}: unknown key {', '.join(map(repr, unknown))}; known: {', '.join(known)}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return f"{field}: missing {', '.join(map(repr, missing))}"
    return f"{field}: {' '.join(error.message.split())}"


def _unknown_names(config: Mapping) -> str | None:
    """A model or a prefix in the grid that no entry defines, the backbone of a model in the grid likewise."""
    known = {"model": set(config["models"]), "prefix": set(config["prefixes"])}
    for key in ("product", "exclude"):
        for position, block in enumerate(config["grid"].get(key, [])):
            for part, names in known.items():
                if unknown := sorted(set(_listed(block.get(part, []))) - names):
                    return (
                        f"grid.{key}.{position}.{part}: unknown {', '.join(unknown)}; known: {', '.join(sorted(names))}"
                    )
    included = [Experiment.parse(name).model for name in config["grid"].get("include", [])]
    for name in [model for block in config["grid"]["product"] for model in _listed(block["model"])] + included:
        backbone = config["models"].get(name, {}).get("backbone")
        if backbone not in {None, *config["backbones"]}:
            return f"models.{name}.backbone: {backbone!r} is not one of {', '.join(config['backbones'])}"
    return None


def _split_shares(config: Mapping) -> str | None:
    shares = config["data"]["sample"]["split"]
    if abs(sum(shares.values()) - 1) > 1e-9:
        return f"data.sample.split: the shares add up to {sum(shares.values()):g}, not 1"
    return None


def _ranges(config: Mapping) -> str | None:
    for key in ("b", "k1"):
        if config["lexical"][key]["stop"] < config["lexical"][key]["start"]:
            return f"lexical.{key}: stop is below start"
    if config["lexical"]["b"]["stop"] > 1:
        return "lexical.b.stop: b lies between 0 and 1"
    return None


def _columns(config: Mapping) -> str | None:
    metrics, columns = config["evaluation"]["metrics"], config["evaluation"]["columns"]
    missing = [metric for metric in columns if metric not in metrics]
    return f"evaluation.columns: {', '.join(missing)} not among evaluation.metrics" if missing else None


def _rows(config: Mapping) -> str | None:
    """Includes that make no sense, excludes that take nothing away, names of experiments that the grid has not."""
    for name in config["grid"].get("include", []):
        if message := nonsense(Experiment.parse(name), config):
            return f"grid.include: {name}: {message}"
    everything = _product(config)
    for position, block in enumerate(config["grid"].get("exclude", [])):
        if not any(_matches(experiment, block) for experiment in everything):
            return f"grid.exclude.{position}: takes nothing away; is a part misspelt?"
    names = {experiment.name for experiment in grid(config)}
    if not names:
        return "grid: no experiment is left"
    for fusion, entry in config.get("fusions", {}).items():
        if unknown := sorted(set(entry["runs"]) - names):
            return f"fusions.{fusion}.runs: {', '.join(unknown)} not in the grid"
    for name in config["training"].get("experiments", {}):
        if name not in names:
            return f"training.experiments.{name}: not in the grid"
    if ablations := config.get("ablations"):
        if ablations["of"] not in names:
            return f"ablations.of: {ablations['of']} is not in the grid"
        if kind_of(config, Experiment.parse(ablations["of"])) != "joint":
            return f"ablations.of: {ablations['of']} does not see both image and text"
    return None


def _trainings(config: Mapping) -> str | None:
    """A training of some experiment whose settings contradict each other or its model."""
    trainings = {experiment.name: settings(config, experiment).get("training", {}) for experiment in grid(config)}
    for name, training in trainings.items():
        experiment = Experiment.parse(name)
        if training and (message := _contradiction(training, kind_of(config, experiment))):
            return f"training.{message} (of {name})"
        if start := training.get("start"):
            if start not in trainings or Experiment.parse(start).model != experiment.model:
                return f"training.start: {start} is no experiment of this grid with the same model (of {name})"
            if start == name or trainings[start].get("start"):
                return f"training.start: {start} itself starts from another experiment (of {name})"
    return _mined_runs(trainings, config)


def miners(training: Mapping) -> list[str]:
    """The miners that a training needs, of negatives and of positives; none for a zero-shot one, which has no keys."""
    positives = training.get("positives", "judged")
    return list(dict.fromkeys([*training.get("negatives", ()), *([] if positives == "judged" else [positives])]))


def mined_experiment(miner: str) -> str | None:
    """The experiment whose run a miner reads: that of `model.minilm_zs_none_avg`; None for `bm25` and such."""
    return miner.partition(".")[2] or None


def _mined_runs(trainings: Mapping[str, Mapping], config: Mapping) -> str | None:
    """A miner of an experiment that the grid has not, or whose training would wait for what is mined from it."""
    needed = {}
    for name, training in trainings.items():
        experiments = {miner: mined_experiment(miner) for miner in miners(training)}
        for miner, experiment in experiments.items():
            if experiment and experiment not in trainings:
                return f"training: miner {miner}: the grid has no experiment {experiment} (of {name})"
            if miner.startswith("image.") and kind_of(config, Experiment.parse(experiment)) != "image":
                return f"training: miner {miner}: {experiment} does not go by the image alone (of {name})"
        needed[name] = {*filter(None, [*experiments.values(), training.get("start")])} & trainings.keys()
    for name in needed:
        waiting, reached = list(needed[name]), set()
        while waiting:
            reached.add(waiting.pop())
            waiting += set().union(*(needed[other] for other in reached)) - reached - set(waiting)
        if name in reached:
            return f"training: {name} would be trained on what is mined from a run that waits for {name} itself"
    return None


def _contradiction(training: Mapping, model: str) -> str | None:
    tasks = training["tasks"]
    kinds = {entry["kind"] for entry in tasks.values()}
    for name, entry in tasks.items():
        if model != "joint" and entry["kind"] in ("match_image", "match_article"):
            return f"tasks.{name}: {entry['kind']} needs a model that sees images and text"
        if "weight" in entry and training["mixing"] == "round-robin":
            return f"tasks.{name}.weight: round-robin takes tasks in turn; set mixing to balanced"
    if training["validate_every"] and "viquae" not in kinds:
        return "validate_every: no task of kind viquae, whose questions could be validated on; set it to 0"
    if training["patience"] and not training["validate_every"]:
        return "patience: nothing is validated that it could wait for; set validate_every"
    return None


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
    chosen = [e for e in _product(config) if not any(_matches(e, block) for block in exclude)]
    chosen += [Experiment.parse(name) for name in config["grid"].get("include", [])]
    return list(dict.fromkeys(chosen))


def _product(config: Mapping) -> list[Experiment]:
    blocks = config["grid"]["product"]
    parts = [[_listed(block[field.name]) for field in fields(Experiment)] for block in blocks]
    every = [Experiment(*combination) for block in parts for combination in product(*block)]
    return [experiment for experiment in every if nonsense(experiment, config) is None]


def _matches(experiment: Experiment, block: Mapping) -> bool:
    return all(getattr(experiment, part) in _listed(values) for part, values in block.items())


def _listed(value: str | list[str]) -> list[str]:
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
