"""The stages after preparing a knowledge base, with a tiny random encoder: for `scale.py --stages`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import torch
from datasets import load_from_disk
from transformers import BertConfig, BertModel, BertTokenizer

from vlret.features.store import FeatureWriter
from vlret.settings import SPLITS, ExperimentSettings

QUESTIONS = (1190, 1250, 1257)
STEPS = {"start": 0.0, "stop": 1.0, "step": 0.1}
REGIONS, DIM = 4, 16


class Stages:
    """Runs the verbs of the workflow's stages in a folder with `data/articles` and `data/passages`.

    `measure` runs a verb and reports its cost under the name given first.
    """

    def __init__(self, folder: Path, known: tuple[int, int, int], measure: Callable):
        self.folder, self.known, self.measure = folder, known, measure
        self.data, self.tables = folder / "data", folder / "data" / "questions"
        self.passages = ["--passages", self.data / "passages"]

    def run(self) -> None:
        """Run all stages in the workflow's order."""
        self.questions()
        self.lexical()
        self.dense()

    def questions(self) -> None:
        """Questions with images, normalised passages, judgements."""
        raw = self.folder / "raw"
        files = dict(zip(SPLITS, published.viquae(raw, QUESTIONS, self.known), strict=True))
        records = [json.loads(line) for path in files.values() for line in path.read_text().splitlines()]
        self.images = sorted({record["image"] for record in records})
        published.image_folder(raw / "images", self.images)
        given = [argument for split, path in files.items() for argument in (f"--{split}", path)]
        given += ["--articles", self.data / "articles", "--images", raw / "images", "--limits", "{}"]
        report = ["--out", self.tables, "--report", self.data / "questions.json"]
        self.measure("questions", "data", "questions", *given, "--link", "wikidata", *report)
        self.measure("normalise", "data", "normalise", *self.passages, "--titles=", "--out", self.data / "normalised")
        judged = ["--questions", self.tables, "--normalised", self.data / "normalised", "--link", "wikidata"]
        report = ["--out", self.data / "qrels", "--report", self.data / "qrels.json"]
        self.measure("qrels", "data", "qrels", *self.passages, *judged, *report)

    def lexical(self) -> None:
        """BM25: index, tuning over 341 points, search, negatives."""
        index, asked = self.folder / "index", ["--questions", self.tables]
        self.measure("BM25 index", "lexical", "index", *self.passages, "--settings", "{}", "--out", index)
        grid = ["--b", json.dumps(STEPS), "--k1", json.dumps({**STEPS, "stop": 3.0})]
        out = ["--out", self.folder / "tuning.json", "--heatmap", self.folder / "heatmap.svg"]
        judged = ["--qrels", self.data / "qrels" / "validation.trec"]
        self.measure("BM25 tuning", "lexical", "tune", "--index", index, *asked, *judged, *grid, *out)
        run = self.folder / "train.trec"
        how = ["--split", "train", "--tuning", self.folder / "tuning.json", "--k", 100, "--tag", "bm25", "--out", run]
        self.measure("BM25 search", "lexical", "search", "--index", index, *asked, *how)
        judged = ["--normalised", self.data / "normalised", "--qrels", self.data / "qrels" / "train.trec", "--run", run]
        how = [
            "--miner",
            "bm25",
            "--split",
            "train",
            "--depth",
            100,
            "--seed",
            0,
            "--out",
            self.folder / "bm25.parquet",
        ]
        self.measure("negatives", "negatives", "mine", *how, *asked, *self.passages, *judged)

    def dense(self) -> None:
        """Train a tiny joint encoder for a few steps, embed everything, search exactly."""
        self._weights()
        self._features("question_features", self.images)
        self._features("article_features", load_from_disk(str(self.data / "articles"))["image"])
        asked = ["--questions", self.tables, "--question-features", self.folder / "question_features"]
        searched = [*self.passages, "--articles", self.data / "articles"]
        searched += ["--article-features", self.folder / "article_features"]
        weights = ["--weights", f"text={self.folder / 'bert'}"]
        judged = ["--qrels", self.data / "qrels" / "train.trec", "--negatives", f"bm25={self.folder / 'bm25.parquet'}"]
        checkpoint, vectors = self.folder / "checkpoint", self.folder / "embeddings"
        given = ["--settings", json.dumps(settings().brief()), "--threads", 1, "--save-steps", 20, *asked, *searched]
        given += [*weights, *judged]
        self.measure("training, 20 steps", "training", "train", *given, "--out", checkpoint)
        given = ["--checkpoint", checkpoint, *weights, "--batch-size", 256, "--threads", 1]
        self.measure("embedding", "retrieval", "embed", *given, *searched, "--out", vectors)
        questions = self.folder / "questions.npy"
        self.measure("embedding questions", "retrieval", "embed-questions", *given, *asked, "--out", questions)
        given = ["--embeddings", vectors, "--questions-embeddings", questions, "--questions", self.tables]
        given += [*self.passages, "--k", 100, "--seed", 0, "--tag", "tiny", "--out", self.folder / "tiny.trec"]
        self.measure("search", "retrieval", "search", *given, "--report", self.folder / "tiny.json")
        judged = [self.data / "qrels" / f"{split}.trec" for split in SPLITS[1:]]
        given = ["--run", self.folder / "tiny.trec", "--metrics", "mrr@100", "--name", "tiny", "--qrels", *judged]
        self.measure("metrics", "evaluation", "metrics", *given, "--out", self.folder / "tiny-metrics.json")

    def _weights(self) -> None:
        """A random BERT of 16 dimensions, with the generator's syllables as vocabulary."""
        torch.manual_seed(0)
        pieces = [f"{joint}{syllable}" for syllable in published._syllables() for joint in ("", "##")]
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *published.COMMON.split(), *pieces]
        vocabulary = {word: row for row, word in enumerate(dict.fromkeys(words))}
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)).save_pretrained(
            self.folder / "bert"
        )
        BertTokenizer(vocab=vocabulary).save_pretrained(self.folder / "bert")

    def _features(self, name: str, images: list[str | None]) -> None:
        """Random image features, in a backbone's format."""
        random, names = np.random.default_rng(0), [image for image in images if image]
        writer = FeatureWriter(self.folder / name, REGIONS, DIM)
        for first in range(0, len(names), 10_000):
            own = names[first : first + 10_000]
            boxes = np.tile(np.float32([0, 0, 1, 1]), (len(own), REGIONS, 1))
            writer.add(own, random.random((len(own), REGIONS, DIM), dtype=np.float32), boxes)
        writer.finish({"backbone": "random"})


def settings() -> ExperimentSettings:
    """The settings of an experiment with that encoder and full tuning."""
    model = {"kind": "joint", "backbone": "random", "text": {"architecture": "bert", "separator": "."}}
    model["visual"] = {"grid": [2, 2], "tokens": [2, 2]}
    training = {"steps": 20, "batch_size": 16, "negatives_per_question": 1, "negatives": {"bm25": 1.0}}
    training |= {"learning_rate": 1e-3, "warmup_steps": 2, "weight_decay": 0.0}
    training |= {"loss": {"name": "dpr", "temperature": 1.0, "learned": False}}
    rest = {"tuning": {"method": "full"}, "pooling": "avg", "tokens": {"question": 32, "passage": 32}}
    named = {"name": "tiny_full_none_avg", "model": model, "training": training}
    return ExperimentSettings.model_validate({**named, **rest})
