"""The grid of experiments, read from the config once; what each rule may ask of it."""

import json
import shlex
import signal
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from vlret.data.declared import declared, relevance
from vlret.experiment import (
    SPLITS,
    Experiment,
    feature_settings,
    grid,
    kind_of,
    knowledge_base,
    load_config,
    merge,
    mined_experiment,
    miners,
    processes,
    read_weights,
    settings,
    task_parts,
    trained,
    weights_file,
    weights_source,
)
from vlret.files import InputError
from vlret.validation import validate

try:
    config = merge(load_config(["config/models.yaml"]), config)
    validate(
        config,
        files=["config/models.yaml", *(workflow.configfiles or ["config/config.yaml"])],
        schema="config/schemas/config.schema.yaml",
    )
    GRID = {experiment.name: experiment for experiment in grid(config)}
    EXPERIMENTS = {experiment.name: experiment for experiment in trained(config)}
    SOURCES = declared(config, yaml.safe_load(Path("config/sources.yaml").read_text(encoding="utf-8")))
except InputError as error:
    raise WorkflowError(str(error)) from None

# Slurm warns all processes of a job of its time limit: Snakemake, the shell and tee live on while training saves its state.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

DOWNLOADS = yaml.safe_load(Path("config/downloads.yaml").read_text(encoding="utf-8"))
FETCHED = {source["name"]: source for sources in SOURCES.values() for source in sources.values()}


def tables_of(dataset):
    """A dataset's tables; articles and passages are those of its knowledge base."""
    base = knowledge_base(config, dataset)
    owners = {"questions": dataset, "articles": base, "passages": base, "normalised": base}
    return {name: f"results/{owner}/data/{name}" for name, owner in owners.items()}


DATASETS = config["datasets"]
PREPARED = "results/{dataset}"  # of any dataset: what its questions are prepared in
RESULTS = f"results/{config['dataset']}"  # of the evaluated one
EVALUATED = tables_of(config["dataset"])
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
ENVIRONMENT = f"../envs/{config['compute']['environment']}.yaml"
THREADS = config["compute"]["threads"]
FUSIONS = config.get("fusions", {})
ABLATIONS = config.get("ablations", {"of": None, "kinds": []})
JUDGEMENTS = {"static": f"{RESULTS}/data/qrels", "dynamic": f"{RESULTS}/data/dynamic"}[config["evaluation"]["qrels"]]
EXPERIMENT = "{model}_{tuning}_{prefix}_{pooling}"


def models_of(*kinds):
    """A regular expression for the models of some kinds; it matches nothing if there are none."""
    return "|".join(name for name, model in config["models"].items() if model["kind"] in kinds) or "(?!)"


def datasets_with(*keys):
    """A regular expression for the datasets whose source has one of some keys; it matches nothing if there are none."""
    return "|".join(name for name, entry in DATASETS.items() if {*keys} & entry["source"].keys()) or "(?!)"


def knowledge(path):
    """A path below the dataset that the articles and passages of a job's dataset are of."""
    return lambda wildcards: f"results/{knowledge_base(config, wildcards.dataset)}/{path}"


wildcard_constraints:
    dataset="|".join(DATASETS),
    model="[a-z0-9+-]+",
    tuning="[a-z0-9+-]+",
    prefix="[a-z0-9+-]+",
    pooling="[a-z0-9+-]+",
    split="|".join(SPLITS),
    collection="questions|articles",
    backbone="|".join(config["backbones"]),
    fusion="|".join(FUSIONS) or "(?!)",
    ablation="|".join(ABLATIONS["kinds"]) or "(?!)",
    run="[a-z0-9+_-]+(\\.[a-z-]+)?",


def index_options(index):
    """Search in the index of an experiment, whose file this is, as options; none where search is exact."""
    if config["retrieval"]["index"] == "Flat":
        return ""
    parameters = config["retrieval"]["parameters"]
    return f"--index {index}" + (f" --parameters {shlex.quote(parameters)}" if parameters else "")


def experiment_of(wildcards):
    """The experiment that a job's wildcards name; one that is not in the grid is an error that says so."""
    name = EXPERIMENT.format(**wildcards)
    if name not in EXPERIMENTS:
        raise WorkflowError(f"{name}: not an experiment of this config's grid; `vlret grid` lists them")
    return EXPERIMENTS[name]


def settings_of(wildcards):
    """An experiment's own settings as JSON: a change of any re-runs it, and nothing else."""
    return json.dumps(settings(config, experiment_of(wildcards)))


def processes_of(wildcards):
    """How many `gpus` a node and how many `nodes` an experiment is trained on."""
    return processes(config, experiment_of(wildcards))


def over_nodes(value):
    """A resource that only a training on several nodes has, a function of their number."""
    return lambda wildcards: value(nodes) if (nodes := processes_of(wildcards)["nodes"]) > 1 else None


def features_of(dataset, backbone):
    """The feature stores of a dataset's images; articles' are those of its knowledge base."""
    owners = {"question_features": dataset, "article_features": knowledge_base(config, dataset)}
    names = {"question_features": "questions", "article_features": "articles"}
    return {name: f"results/{owner}/features/{backbone}/{names[name]}" for name, owner in owners.items()}


def present(path):
    """A file of the user's own, or, until it is there, the job that asks for it."""
    own = not Path(path).is_relative_to("results") and not Path(path).is_absolute()
    return f"results/by-hand/{path}" if own and not Path(path).exists() else path


def corpus(wildcards):
    """The tables, feature stores and weights that an experiment's encoder reads."""
    model = config["models"][wildcards.model]
    files = {name: EVALUATED[name] for name in ("questions", "passages", "articles")}
    if "backbone" in model:
        files |= features_of(config["dataset"], model["backbone"])
    read = read_weights(config, experiment_of(wildcards))
    return {**files, **{f"weights_{name}": present(source) for name, (source, _) in read.items()}}


def corpus_options(wildcards):
    """The same as options of `vlret training` and `vlret retrieval`."""
    files = {name: path for name, path in corpus(wildcards).items() if not name.startswith("weights_")}
    weights = [f"{name}={path}" for name, (_, path) in read_weights(config, experiment_of(wildcards)).items()]
    options = [f"--{name.replace('_', '-')} {path}" for name, path in files.items()]
    return " ".join([*options, *(["--weights", *weights] if weights else [])])


def mined(wildcards, split="train"):
    """The mined passages that an experiment trains against, or is validated against, by miner; none for zero-shot."""
    training = settings(config, experiment_of(wildcards)).get("training", {"validate_every": 0})
    asked = miners(training) if split == "train" or training["validate_every"] else ()
    return {miner: f"{RESULTS}/negatives/{miner}/{split}.parquet" for miner in asked}


def tuned(wildcards):
    """The tuning of a dataset's BM25; none where the config gives b and k1."""
    return [] if "lexical" in DATASETS[wildcards.dataset] else f"results/{wildcards.dataset}/lexical/tuning.json"


def lexical_options(wildcards):
    """The parameters of BM25 as options of `vlret lexical search`."""
    given = DATASETS[wildcards.dataset].get("lexical")
    return f"--settings {shlex.quote(json.dumps(given))}" if given else f"--tuning {tuned(wildcards)}"


def miner_run(wildcards):
    """The run that a miner reads: BM25's of the split, an experiment's, or none."""
    if wildcards.miner == "bm25":
        return f"{PREPARED}/lexical/runs/{wildcards.split}.trec".format(**wildcards)
    experiment = mined_experiment(wildcards.miner)
    return f"{RESULTS}/runs/{experiment}.trec" if experiment else []


def validation_qrels(wildcards):
    """The judgements that an experiment is validated by while it trains; none where it is not."""
    training = settings(config, experiment_of(wildcards)).get("training", {"validate_every": 0})
    return [f"{RESULTS}/data/qrels/validation.trec"] if training["validate_every"] else []


def task_files(wildcards):
    """The files of other datasets that the tasks of an experiment's training read, by `DATASET.PART`."""
    model = config["models"][wildcards.model]
    training = settings(config, experiment_of(wildcards)).get("training", {})
    files = {}
    for dataset in filter(None, [entry.get("dataset") for entry in training.get("tasks", {}).values()]):
        known = {**tables_of(dataset), "qrels": f"results/{dataset}/data/qrels/train.trec"}
        known |= {f"negatives.{m}": f"results/{dataset}/negatives/{m}/train.parquet" for m in miners(training, dataset)}
        if "backbone" in model:
            known |= features_of(dataset, model["backbone"])
        files |= {f"{dataset}.{part}": known[part] for part in task_parts(training, dataset) if part in known}
    return files


def task_options(wildcards):
    """The same as options of `vlret training`."""
    files = " ".join(f"{name}={path}" for name, path in task_files(wildcards).items())
    return f"--datasets {files}" if files else ""


def mined_options(wildcards, split):
    """The mined passages as `vlret training` takes them."""
    return " ".join(f"{miner}={path}" for miner, path in mined(wildcards, split).items())


def validation_options(wildcards):
    """What an experiment is validated by, as options of `vlret training`."""
    given = {
        "--validation-qrels": " ".join(validation_qrels(wildcards)),
        "--validation-negatives": mined_options(wildcards, "validation"),
    }
    return " ".join(f"{option} {files}" for option, files in given.items() if files)


def table_runs():
    """The rows of the table in their order: experiments, fusions, ablations, each with its parts."""
    rows = [
        {"name": name, "model": e.model, "tuning": e.tuning, "prefix": e.prefix, "pooling": e.pooling, "note": ""}
        for name, e in GRID.items()
    ]
    for name, fusion in FUSIONS.items():
        kind = "reciprocal rank fusion" if fusion["method"] == "rrf" else "fusion"
        note = f"{kind} of {' and '.join(fusion['runs'])}"
        rows.append({"name": name, "model": name, "tuning": "", "prefix": "", "pooling": "", "note": note})
    for kind in ABLATIONS["kinds"]:
        name, e = f"{ABLATIONS['of']}.{kind}", EXPERIMENTS[ABLATIONS["of"]]
        parts = {"model": e.model, "tuning": e.tuning, "prefix": e.prefix, "pooling": e.pooling}
        rows.append({"name": name, **parts, "note": kind})
    return rows
