"""The grid of experiments, read from the config once; what each rule may ask of it."""

import json
import shlex
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from vlret.experiment import (
    SPLITS,
    Experiment,
    feature_settings,
    grid,
    kind_of,
    load_config,
    merge,
    mined_experiment,
    miners,
    read_weights,
    settings,
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
    EXPERIMENTS = {experiment.name: experiment for experiment in grid(config)}
except InputError as error:
    raise WorkflowError(str(error)) from None

DOWNLOADS = yaml.safe_load(Path("config/downloads.yaml").read_text(encoding="utf-8"))
RESULTS = f"results/{config['dataset']}"
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


wildcard_constraints:
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


def corpus(wildcards):
    """The tables, feature stores and weights that an experiment's encoder reads."""
    model = config["models"][wildcards.model]
    files = {name: f"{RESULTS}/data/{name}" for name in ("questions", "passages", "articles")}
    if "backbone" in model:
        files["question_features"] = f"{RESULTS}/features/{model['backbone']}/questions"
        files["article_features"] = f"{RESULTS}/features/{model['backbone']}/articles"
    read = read_weights(config, experiment_of(wildcards))
    return {**files, **{f"weights_{name}": source for name, (source, _) in read.items()}}


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


def miner_run(wildcards):
    """The run that a miner reads: BM25's of the split, an experiment's, or none."""
    if wildcards.miner == "bm25":
        return f"{RESULTS}/lexical/runs/{wildcards.split}.trec"
    experiment = mined_experiment(wildcards.miner)
    return f"{RESULTS}/runs/{experiment}.trec" if experiment else []


def validation_qrels(wildcards):
    """The judgements that an experiment is validated by while it trains; none where it is not."""
    training = settings(config, experiment_of(wildcards)).get("training", {"validate_every": 0})
    return [f"{RESULTS}/data/qrels/validation.trec"] if training["validate_every"] else []


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
        for name, e in EXPERIMENTS.items()
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
