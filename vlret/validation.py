"""Checks of a whole config: undefined names, and settings that contradict each other."""

from collections.abc import Mapping
from itertools import product

from vlret.data.declared import undeclared
from vlret.experiment import (
    Experiment,
    every_product,
    grid,
    kind_of,
    matches,
    mined_experiments,
    nonsense,
    rows,
    settings,
    trained,
    training_of,
    tunings,
)
from vlret.explained import among, meant
from vlret.settings import DIRECTIONS, PARTS, TASK_KINDS, TUNING, Block, Config, Training, TrainingRun
from vlret.sizes import stated_sizes, too_large


def mistake(config: Config) -> str | None:
    """The first mistake in a config as `field: what is wrong`, or None."""
    problems = (_unknown_names, _variants, undeclared, _ranges, _columns, _rows, _sizes, _permutations, _trainings)
    return next((message for problem in problems if (message := problem(config))), None)


def _unknown_names(config: Config) -> str | None:
    """Undefined parts of the grid, or an undefined backbone or pre-training of its models."""
    known = {"model": config.models, "prefix": config.prefixes, "tuning": tunings(config)}
    for key, blocks in (("product", config.grid.product), ("exclude", config.grid.exclude)):
        for position, block in enumerate(blocks):
            for part, names in known.items():
                if unknown := sorted(set(getattr(block, part) or ()) - set(names)):
                    hint = among(unknown[0], list(names))
                    return f"grid.{key}.{position}.{part}: unknown {', '.join(unknown)}; {hint}"
    if config.prefixes.get("none") != "":
        return 'prefixes.none: this is the empty prefix, ""'
    used = [model for block in config.grid.product for model in block.model]
    for name in dict.fromkeys([*used, *(Experiment.parse(name).model for name in config.grid.include)]):
        for key, names in (("backbone", config.backbones), ("pretraining", config.training.pretraining)):
            value = getattr(config.models.get(name), key, None)
            if value not in {None, *names}:
                known = ", ".join(names) or f"training.{key}"
                return f"models.{name}.{key}: {value!r} is not one of {known}{meant(value, names)}"
    return None


def _variants(config: Config) -> str | None:
    """A variant named like a method."""
    for name in config.tuning.variants:
        if name in TUNING:
            return f"tuning.variants.{name}: this is a method's own name; change tuning.{name}"
    return None


def _ranges(config: Config) -> str | None:
    for key in ("b", "k1"):
        values = getattr(config.lexical, key)
        if values.stop < values.start:
            return f"lexical.{key}: stop is below start"
    if config.lexical.b.stop > 1:
        return "lexical.b.stop: b lies between 0 and 1"
    return None


def _columns(config: Config) -> str | None:
    """A column that is not among the metrics, or a metric with a cut-off beyond the depth of runs."""
    metrics, columns = config.evaluation.metrics, config.evaluation.columns
    if missing := [metric for metric in columns if metric not in metrics]:
        return f"evaluation.columns: {', '.join(missing)} not among evaluation.metrics"
    for metric in metrics:
        if (cut := int(metric.partition("@")[2])) > config.retrieval.depth:
            return (
                f"evaluation.metrics: {metric} exceeds the depth of runs, retrieval.depth: {config.retrieval.depth}; "
                f"set that to {cut}, or remove the metric"
            )
    return None


def _sizes(config: Config) -> str | None:
    """Settings that exceed the stated sizes of encoders."""
    return too_large(config, stated_sizes(config))


def _permutations(config: Config) -> str | None:
    """Too few permutations for any difference in the table to be significant."""
    return config.evaluation.too_few_permutations(len(rows(config)))


def _rows(config: Config) -> str | None:
    """Invalid includes, blocks without effect, and names of experiments that are not in the grid."""
    for name in config.grid.include:
        if message := nonsense(Experiment.parse(name), config):
            return f"grid.include: {name}: {message}"
    for position, block in enumerate(config.grid.product):
        if message := _idle(block, config):
            return f"grid.product.{position}{message}"
    everything = every_product(config)
    for position, block in enumerate(config.grid.exclude):
        if not any(matches(experiment, block) for experiment in everything):
            return f"grid.exclude.{position}: excludes nothing; is a part misspelt?"
    names = {experiment.name for experiment in grid(config)}
    if not names:
        return "grid: no experiment is left"
    return _others(config, names)


def _idle(block: Block, config: Config) -> str | None:
    """A block without valid combinations, or a part that has none in its block."""
    only = config.grid.model_copy(update={"product": [block]})
    found = every_product(config.model_copy(update={"grid": only}))
    for part in PARTS:
        for value in getattr(block, part):
            if any(getattr(experiment, part) == value for experiment in found):
                continue
            parts = [[value] if each == part else getattr(block, each) for each in PARTS]
            reasons = [nonsense(Experiment(*each), config) for each in product(*parts)]
            reason = next((reason for reason in reasons if reason.startswith(part)), reasons[0])
            return f".{part}: {value} yields no experiment: {reason}" if found else f": yields no experiment: {reason}"
    return None


def _others(config: Config, names: set[str]) -> str | None:
    """Fusions, ablations and trainings of experiments that are not in the grid."""

    def near(name: str) -> str:
        return meant(name, [*names, *config.runs])

    for fusion, entry in config.fusions.items():
        if unknown := sorted(set(entry.runs) - names - config.runs.keys()):
            return (
                f"fusions.{fusion}.runs: {', '.join(unknown)} not in the grid{near(unknown[0])}; "
                "add them, or remove all fusions of earlier files with `fusions: {}`"
            )
        if len(set(entry.runs)) < len(entry.runs):
            return f"fusions.{fusion}.runs: a run is fused with itself"
    for name in config.training.experiments:
        if name not in names and name not in {experiment.name for experiment in trained(config)}:
            return f"training.experiments.{name}: not in the grid{near(name)}"
    for name in config.training.tuning:
        if name not in tunings(config):
            return f"training.tuning.{name}: no tuning method or variant; {among(name, tunings(config))}"
    if ablations := config.ablations:
        if ablations.of not in names:
            hint = near(ablations.of)
            return f"ablations.of: {ablations.of} is not in the grid{hint}; remove the ablations with `ablations: null`"
        if kind_of(config, Experiment.parse(ablations.of)) != "joint":
            return f"ablations.of: {ablations.of} does not see both image and text"
    every = [row.name for row in rows(config)]
    for name in (*config.fusions, *config.runs):
        if every.count(name) > 1:
            return f"{'runs' if name in config.runs else 'fusions'}.{name}: another row has this name"
    return None


def _trainings(config: Config) -> str | None:
    """Training settings that contradict each other or the experiment's model."""
    runs = {experiment.name: training_of(config, experiment) for experiment in trained(config)}
    runs = {name: run for name, run in runs.items() if run}
    for name, run in runs.items():
        experiment = Experiment.parse(name)
        message = _contradiction(run, kind_of(config, experiment)) or _task_data(run, config) or _uneven(run)
        if message := message or _unfit(run, experiment, config):
            return f"training.{message} (of {name})"
        if message := run.start and _start(name, runs, config):
            return f"training.start: {message}"
    return _mined_runs(runs, config)


def _start(name: str, runs: Mapping[str, TrainingRun], config: Config) -> str | None:
    """A start that is no experiment with this model, has a start itself, or was trained on other tasks."""
    start, experiment = runs[name].start, Experiment.parse(name)
    if start not in runs or Experiment.parse(start).model != experiment.model:
        hint = meant(start, runs)
        return f"{start} is no experiment of this grid with the same model{hint} (of {name})"
    if start == name or runs[start].start:
        return f"{start} itself starts from another experiment (of {name})"
    tuning, before = (settings(config, each).tuning for each in (experiment, Experiment.parse(start)))
    apart = tuning.method == "hyperformer" or getattr(tuning, "sharing", "single") != "single"
    if apart and tuning == before and runs[name].tasks.keys() != runs[start].tasks.keys():
        return f"{start} has parameters for each of its tasks, and {name} has other tasks"
    return None


def _mined_runs(runs: Mapping[str, Training], config: Config) -> str | None:
    """A miner whose experiment is missing, has the wrong kind of model, or depends on the miner's own training."""
    every, needed = {experiment.name for experiment in trained(config)}, {}
    for name, run in runs.items():
        mined = mined_experiments(run.miners())
        for miner, experiment in mined.items():
            if experiment not in every:
                hint = meant(experiment, every)
                return f"training: miner {miner}: the grid has no experiment {experiment}{hint} (of {name})"
            if miner.startswith("image.") and kind_of(config, Experiment.parse(experiment)) != "image":
                return f"training: miner {miner}: {experiment} does not rank by images only (of {name})"
        needed[name] = {*mined.values(), *filter(None, [run.start])} & runs.keys()
    for name in needed:
        waiting, reached = list(needed[name]), set()
        while waiting:
            reached.add(waiting.pop())
            waiting += set().union(*(needed[other] for other in reached)) - reached - set(waiting)
        if name in reached:
            return f"training: {name} depends on a run that depends on {name} itself"
    return None


def _task_data(training: Training, config: Config) -> str | None:
    """A task whose dataset is undeclared, or whose miner reads a run over another dataset."""
    for name, task in training.tasks.items():
        if task.dataset not in {None, *config.datasets}:
            hint = f"{', '.join(config.datasets)}{meant(task.dataset, config.datasets)}"
            return f"tasks.{name}.dataset: {task.dataset!r} is not one of datasets: {hint}"
        if task.dataset and task.dataset != config.dataset:
            only = training.model_copy(update={"tasks": {name: task}})
            if runs := [*mined_experiments(only.miners(task.dataset))]:
                return f"tasks.{name}: miner {runs[0]} reads a run over {config.dataset}, not over {task.dataset}"
    return None


def _uneven(run: TrainingRun) -> str | None:
    """A batch that cannot be divided evenly among processes."""
    processes = run.gpus * run.nodes
    for name in run.tasks:
        if (size := run.of_task(name).batch_size) % processes:
            return f"batch_size: {size} questions cannot be divided evenly among {processes} processes, task {name}"
    return None


def _unfit(training: Training, experiment: Experiment, config: Config) -> str | None:
    """An image-only task with a text pooling, or a cosine loss for vectors that are not normalised."""
    head = config.models[experiment.model].head
    for name, task in training.tasks.items():
        if task.kind == "match_image" and experiment.pooling == "eos":
            return (
                f"tasks.{name}: match_image encodes images without text, which pooling eos needs; "
                "choose another pooling, or remove the task"
            )
        if (loss := training.of_task(name).loss.name) in DIRECTIONS and not head.normalise:
            return (
                f"loss: {loss} ignores vector lengths, but models.{experiment.model}.head.normalise is false and "
                f"search does not; set that to true, or the loss to dpr, task {name}"
            )
    return None


def _contradiction(training: Training, model: str) -> str | None:
    for name, task in training.tasks.items():
        if model not in TASK_KINDS[task.kind].models:
            return f"tasks.{name}: {task.kind} needs a model that sees images and text"
        if task.weight is not None and training.mixing == "round-robin":
            return f"tasks.{name}.weight: round-robin takes tasks in turn; set mixing to balanced"
        if training.of_task(name).negatives_per_question and not training.of_task(name).negatives:
            return f"negatives: {{}} has no miner for the negatives of task {name}; set negatives_per_question to 0"
    if training.validate_every and "viquae" not in {t.kind for t in training.tasks.values() if t.dataset is None}:
        return "validate_every: no task of kind viquae on the evaluated dataset to validate; set it to 0"
    if training.patience and not training.validate_every:
        return "patience: there is no validation; set validate_every"
    if training.validation_pool and not training.validate_every:
        return "validation_pool: there is no validation; set validate_every"
    if training.warmup_steps > training.steps:
        return f"warmup_steps: {training.warmup_steps} is more than steps, {training.steps}"
    return None
