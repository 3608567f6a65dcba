"""The validation of a whole config: one clear line about the first mistake, before anything runs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jsonschema
import yaml

from vlret.data.declared import undeclared
from vlret.experiment import (
    ADDING,
    PLAIN,
    Experiment,
    every_product,
    grid,
    kind_of,
    listed,
    load_config,
    matches,
    mined_experiment,
    miners,
    nonsense,
    processes,
    settings,
    trained,
)
from vlret.files import InputError


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
    for problem in (_unknown_names, _variants, undeclared, _ranges, _columns, _rows, _trainings):
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
                if unknown := sorted(set(listed(block.get(part, []))) - names):
                    return (
                        f"grid.{key}.{position}.{part}: unknown {', '.join(unknown)}; known: {', '.join(sorted(names))}"
                    )
    included = [Experiment.parse(name).model for name in config["grid"].get("include", [])]
    for name in [model for block in config["grid"]["product"] for model in listed(block["model"])] + included:
        recipes = config["training"].get("pretraining", {})
        for key, known in (("backbone", config["backbones"]), ("pretraining", recipes)):
            value = config["models"].get(name, {}).get(key)
            if value not in {None, *known}:
                return f"models.{name}.{key}: {value!r} is not one of {', '.join(known) or 'training.pretraining'}"
    return None


def _variants(config: Mapping) -> str | None:
    """A variant of a tuning method that is none, takes a method's name, or changes what the method has not."""
    for name, variant in config["tuning"].get("variants", {}).items():
        field = f"tuning.variants.{name}"
        if name in (known := [*PLAIN, "visual", *ADDING]):
            return f"{field}: this is a method's own name; change tuning.{name}"
        if variant["method"] not in known:
            return f"{field}.method: {variant['method']!r} is not one of {', '.join(known)}"
        choices = config["tuning"].get(variant["method"], {})
        if odd := sorted(variant.keys() - choices.keys() - {"method"}):
            return f"{field}: {variant['method']} has no {odd[0]}; it has {', '.join(choices) or 'no settings'}"
        for key in variant.keys() - {"method"}:
            if type(variant[key]) is not type(choices[key]):
                return f"{field}.{key}: {variant[key]!r} is not like tuning.{variant['method']}.{key}, {choices[key]!r}"
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
    everything = every_product(config)
    for position, block in enumerate(config["grid"].get("exclude", [])):
        if not any(matches(experiment, block) for experiment in everything):
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
    trainings = {experiment.name: settings(config, experiment).get("training", {}) for experiment in trained(config)}
    for name, training in trainings.items():
        experiment = Experiment.parse(name)
        message = training and (
            _contradiction(training, kind_of(config, experiment))
            or _task_data(training, config)
            or _uneven(training, **processes(config, experiment))
        )
        if message:
            return f"training.{message} (of {name})"
        if message := training.get("start") and _start(name, trainings, config):
            return f"training.start: {message}"
    return _mined_runs(trainings, config)


def _start(name: str, trainings: Mapping[str, Mapping], config: Mapping) -> str | None:
    """A start that is no experiment, has a start itself, or whose parts fit no task of the experiment."""
    start, experiment = trainings[name]["start"], Experiment.parse(name)
    if start not in trainings or Experiment.parse(start).model != experiment.model:
        return f"{start} is no experiment of this grid with the same model (of {name})"
    if start == name or trainings[start].get("start"):
        return f"{start} itself starts from another experiment (of {name})"
    tuning, before = (settings(config, each)["tuning"] for each in (experiment, Experiment.parse(start)))
    apart = tuning["method"] == "hyperformer" or tuning.get("sharing", "single") != "single"
    if apart and tuning == before and trainings[name]["tasks"].keys() != trainings[start]["tasks"].keys():
        return f"{start} has parts for its tasks alone, of which {name} has others"
    return None


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


def _task_data(training: Mapping, config: Mapping) -> str | None:
    """A task whose dataset is not declared, or is mined by runs, which are of the evaluated one."""
    for name, entry in training["tasks"].items():
        dataset = entry.get("dataset")
        if dataset not in {None, *config["datasets"]}:
            return f"tasks.{name}.dataset: {dataset!r} is not one of datasets: {', '.join(config['datasets'])}"
        alone = {**training, "tasks": {name: entry}}
        if dataset and (runs := [*filter(mined_experiment, miners(alone, dataset))]):
            return f"tasks.{name}: miner {runs[0]} reads a run over {config['dataset']}, not over {dataset}"
    return None


def _uneven(training: Mapping, gpus: int, nodes: int) -> str | None:
    """A batch that its processes cannot share evenly."""
    for name, task in training["tasks"].items():
        if (size := task.get("batch_size", training["batch_size"])) % (gpus * nodes):
            return f"batch_size: {size} questions do not go evenly into {gpus * nodes} processes, task {name}"
    return None


def _contradiction(training: Mapping, model: str) -> str | None:
    tasks = training["tasks"]
    kinds = {entry["kind"] for entry in tasks.values() if "dataset" not in entry}
    for name, entry in tasks.items():
        if model != "joint" and entry["kind"] in ("match_image", "match_article"):
            return f"tasks.{name}: {entry['kind']} needs a model that sees images and text"
        if "weight" in entry and training["mixing"] == "round-robin":
            return f"tasks.{name}.weight: round-robin takes tasks in turn; set mixing to balanced"
    if training["validate_every"] and "viquae" not in kinds:
        return "validate_every: no task of kind viquae on the evaluated dataset could be validated; set it to 0"
    if training["patience"] and not training["validate_every"]:
        return "patience: nothing is validated that it could wait for; set validate_every"
    return None
