"""Experiments: names, the grid that a config declares, their settings, and the rows of the table."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

from vlret.explained import among, meant
from vlret.files import InputError
from vlret.settings import (
    PART,
    TUNING,
    Config,
    Encoder,
    Excluded,
    ExperimentSettings,
    Pretraining,
    Sizes,
    Tokens,
    TrainingRun,
    Tuning,
)

TEXT_POOLINGS = ["1token", "avg", "avg-all", "eos", "decoder", "sum-last-N", "concat-last-N"]

# Kind of model → whether it takes prefixes, and its poolings; N is a number.
SENSIBLE = {
    "lexical": (False, ["none"]),
    "image": (False, ["avg", "concat"]),
    "dual": (False, ["1token", "avg"]),
    "text": (True, TEXT_POOLINGS),
    "joint": (True, TEXT_POOLINGS),
}


@dataclass(frozen=True, order=True)
class Experiment:
    """A combination of model, tuning, prefix and pooling; all its files are named after it."""

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
        """Read an experiment's name; `InputError` unless it has exactly four parts of `[a-z0-9+-]`."""
        parts = name.split("_")
        if len(parts) != len(fields(cls)) or not all(re.fullmatch(PART, part) for part in parts):
            raise InputError(f"experiment {name!r}: expected model_tuning_prefix_pooling, each of a-z, 0-9, + and -")
        return cls(*parts)


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes
    ----------
    name
        The name of its run and metrics.
    parts
        The experiment whose parts are shown, if any.
    note
        A description, if the name is not enough.
    runs
        The rows whose runs it combines.
    """

    name: str
    parts: Experiment | None = None
    note: str = ""
    runs: Sequence[str] = ()

    def columns(self) -> dict[str, str]:
        """The row as a table shows it: name, model, tuning, prefix, pooling, note."""
        parts = self.parts or Experiment(self.name, "", "", "")
        return {
            "name": self.name,
            **{part.name: getattr(parts, part.name) for part in fields(parts)},
            "note": self.note,
        }


def rows(config: Config) -> list[Row]:
    """The rows of the table in order: experiments, fusions, external runs, ablations."""
    found = [Row(experiment.name, experiment) for experiment in grid(config)]
    for name, fusion in config.fusions.items():
        kind = "reciprocal rank fusion" if fusion.method == "rrf" else "fusion"
        found.append(Row(name, note=f"{kind} of {' and '.join(fusion.runs)}", runs=tuple(fusion.runs)))
    found += [Row(name, note="made elsewhere") for name in config.runs]
    if config.ablations:
        of = Experiment.parse(config.ablations.of)
        found += [Row(f"{of.name}.{kind}", of, kind) for kind in config.ablations.kinds]
    return found


def knowledge_base(config: Config, dataset: str) -> str:
    """The dataset that provides the articles and passages for a dataset's questions, by default itself."""
    return config.datasets[dataset].knowledge_base or dataset


def kind_of(config: Config, experiment: Experiment) -> str:
    """The kind of an experiment's model: lexical, image, text, dual or joint."""
    return config.models[experiment.model].kind


def nonsense(experiment: Experiment, config: Config) -> str | None:
    """Why an experiment is invalid, or None if it is valid."""
    if experiment.model not in config.models:
        return f"unknown model; {among(experiment.model, sorted(config.models))}"
    tuning = tuning_of(config, experiment.tuning)
    if tuning is None:
        return f"unknown tuning {experiment.tuning!r}; {among(experiment.tuning, tunings(config))}"
    kind = kind_of(config, experiment)
    takes_prefixes, poolings = SENSIBLE[kind]
    prefixes = list(config.prefixes) if takes_prefixes else ["none"]
    methods = [method for method, cls in TUNING.items() if kind in cls.KINDS]
    pooling = re.sub(r"(?<=-last-)[1-9]\d*$", "N", experiment.pooling)
    if message := _without_pretraining(experiment, config):
        return message
    if "projection" in tuning.method and not _has_head(config, experiment):
        return f"tuning {experiment.tuning!r} trains a head, and models.{experiment.model} has none"
    for part, value, known, allowed in (
        ("tuning", tuning.method, tuning.method, methods),
        ("prefix", experiment.prefix, experiment.prefix, prefixes),
        ("pooling", experiment.pooling, pooling, poolings),
    ):
        if known not in allowed:
            near = meant(value, allowed)
            return f"{part} {value!r} is invalid for a model of kind {kind}; valid: {', '.join(allowed)}{near}"
    if experiment.pooling == "decoder" and config.models[experiment.model].text.architecture == "bert":
        return "pooling 'decoder': BERT has no decoder"
    return None


def _has_head(config: Config, experiment: Experiment) -> bool:
    head = getattr(config.models[experiment.model], "head", None)
    return head is not None and head.projection is not None


def _without_pretraining(experiment: Experiment, config: Config) -> str | None:
    """Why an experiment is incompatible with the pre-training of its model, or None."""
    recipe = pretraining_of(config, experiment)
    if recipe is None:
        return None
    before, kind = tuning_of(config, recipe.tuning), kind_of(config, experiment)
    if before is None or before.method == "zs" or kind not in before.KINDS:
        return f"training.pretraining: tuning {recipe.tuning!r} does not train a model of kind {kind}"
    if before.ADDS and experiment.tuning not in ("zs", recipe.tuning):
        return f"tuning {experiment.tuning!r}: pre-training with {recipe.tuning} adds parameters that it lacks"
    return None


def grid(config: Config) -> list[Experiment]:
    """All valid experiments of a config, in declared order, without duplicates."""
    chosen = [e for e in every_product(config) if not any(matches(e, block) for block in config.grid.exclude)]
    chosen += [Experiment.parse(name) for name in config.grid.include]
    return list(dict.fromkeys(chosen))


def every_product(config: Config) -> list[Experiment]:
    """The valid combinations of a grid's products, before excludes and includes."""
    return [experiment for block in config.grid.product for experiment in _product(config, block)]


def _product(config: Config, block: object) -> list[Experiment]:
    every = product(*(getattr(block, field.name) for field in fields(Experiment)))
    return [experiment for parts in every if nonsense(experiment := Experiment(*parts), config) is None]


def matches(experiment: Experiment, block: Excluded) -> bool:
    """Whether an experiment has the parts that a block of `grid.exclude` names."""
    return all(getattr(experiment, part) in values for part, values in block.given().items())


def tunings(config: Config) -> list[str]:
    """The valid values of the part `tuning`: methods and their variants."""
    return [*TUNING, *config.tuning.variants]


def tuning_of(config: Config, name: str) -> Tuning | None:
    """The settings of a tuning method or variant; a variant overrides its method's. None if unknown."""
    if name in TUNING:
        return getattr(config.tuning, name)
    if name in config.tuning.variants:
        variant = config.tuning.variants[name]
        return variant.over(getattr(config.tuning, variant.method))
    return None


def settings(config: Config, experiment: Experiment, model: Encoder | None = None) -> ExperimentSettings:
    """Everything that determines an experiment's encoder and its training, and nothing else.

    Changing any value retrains the experiment, so settings of other experiments must not be included. `model` is the
    model's entry with local weights by fingerprint (`vlret.layout`); by default the entry in the config.
    """
    tuning, run = tuning_and_run(config, experiment)
    return ExperimentSettings(
        name=experiment.name,
        model=_known(model or config.models[experiment.model]),
        tuning=tuning,
        prefix=config.prefixes[experiment.prefix],
        pooling=experiment.pooling,
        tokens=Tokens(question=config.embedding.question_tokens, passage=config.embedding.passage_tokens),
        seed=config.seed,
        training=run and run.learned(),
    )


def _known(model: Encoder) -> Encoder:
    """A model without fields that do not affect the result: the pre-training's name and stated sizes."""
    if getattr(model, "pretraining", None):
        model = model.model_copy(update={"pretraining": None})
    if getattr(model, "text", None):
        model = model.model_copy(update={"text": model.text.model_copy(update={"sizes": Sizes()})})
    return model


def tuned_as(config: Config, experiment: Experiment) -> str:
    """The method or variant an experiment is trained with: its own, or its pre-training's."""
    recipe = pretraining_of(config, experiment)
    return recipe.tuning if recipe is not None and experiment.tuning == "zs" else experiment.tuning


def tuning_and_run(config: Config, experiment: Experiment) -> tuple[Tuning, TrainingRun | None]:
    """An experiment's tuning settings, and its training; None if nothing is trained.

    Training settings are the defaults, overridden by method, variant, pre-training and experiment, in this order.
    """
    recipe = pretraining_of(config, experiment)
    pretrains = recipe is not None and experiment.tuning == "zs"
    name = tuned_as(config, experiment)
    tuning = tuning_of(config, name)
    if tuning.method == "zs":
        return tuning, None
    after = TrainingRun()
    if pretrains:
        after = TrainingRun(**{key: value for key, value in recipe.given().items() if key != "tuning"})
    elif recipe:
        after = TrainingRun(start=replace(experiment, tuning="zs").name)
    entries = config.training.tuning, config.training.experiments
    changes = [entries[0].get(tuning.method), entries[0].get(name), after, entries[1].get(experiment.name)]
    run = config.training.defaults
    for change in filter(None, changes):
        run = change.over(run)
    return tuning, run if pretrains else _of_evaluated(run, config.dataset)


def _of_evaluated(run: TrainingRun, dataset: str) -> TrainingRun:
    """A training whose tasks on the evaluated dataset have `dataset: null`.

    A pre-training belongs to no evaluated dataset, so its tasks keep all names.
    """
    tasks = {
        name: task.model_copy(update={"dataset": None}) if task.dataset == dataset else task
        for name, task in run.tasks.items()
    }
    return run if tasks == run.tasks else TrainingRun(**{**run.given(), "tasks": tasks})


def training_of(config: Config, experiment: Experiment) -> TrainingRun | None:
    """An experiment's training; None if nothing is trained."""
    return tuning_and_run(config, experiment)[1]


def pretraining_of(config: Config, experiment: Experiment) -> Pretraining | None:
    """The pre-training of an experiment's model; None if it only uses published weights.

    The model's zero-shot experiment is the pre-trained model; all others start from its checkpoint.
    """
    name = getattr(config.models[experiment.model], "pretraining", None)
    return None if name is None else config.training.pretraining[name]


def trained(config: Config) -> list[Experiment]:
    """The experiments of the grid, and the pre-trainings they start from."""
    chosen = grid(config)
    starts = [replace(experiment, tuning="zs") for experiment in chosen if pretraining_of(config, experiment)]
    return list(dict.fromkeys([*chosen, *starts]))


def shared_pretraining(config: Config, experiment: Experiment) -> bool:
    """Whether an experiment is a pre-training only on other datasets than the evaluated one."""
    if experiment.tuning != "zs" or pretraining_of(config, experiment) is None:
        return False
    return all(task.dataset for task in training_of(config, experiment).tasks.values())


def mined_experiment(miner: str) -> str | None:
    """The experiment whose run a miner reads, as in `model.minilm_zs_none_avg`; None for `bm25` etc."""
    return miner.partition(".")[2] or None


def mined_experiments(miners: Iterable[str]) -> dict[str, str]:
    """Miner → the experiment whose run it reads, for miners that read one."""
    return {miner: name for miner in miners if (name := mined_experiment(miner))}
