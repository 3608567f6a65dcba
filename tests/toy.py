"""A toy dataset and model: words that name things, images of them, a tiny random BERT."""

import json
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from tiny_encoders import small
from transformers import BertConfig, BertModel, BertTokenizer

from vlret.data.tables import all_questions
from vlret.features.store import FeatureWriter
from vlret.retrieval.embed import embed
from vlret.retrieval.vectors import Vectors
from vlret.runs import read_qrels, write_qrels
from vlret.settings import SPLITS, ExperimentSettings
from vlret.training.train import train

THINGS = 12
WORDS = [f"word{number}" for number in range(40)]


class Toy:
    """Questions ask for a property of the thing in their image; each passage states one property of one thing."""

    articles_count = THINGS + 2

    def __init__(self, folder):
        self.folder, self.random = folder, np.random.default_rng(0)
        self.questions, self.qrels = folder / "questions", folder / "train.trec"
        self.article_images = [f"a{thing}.png" for thing in range(THINGS)] + [None, None]
        self._articles_and_passages()
        self._questions()
        self._features()
        self._bert()
        self.negatives = {"random": folder / "random.parquet"}
        self._mined(self.qrels, self.negatives["random"])
        self._mined(self.validation["validation_qrels"], self.validation["validation_negatives"]["random"])

    @cached_property
    def corpus(self):
        stores = {"question_features": self.folder / "fq", "article_features": self.folder / "fa"}
        tables = {name: self.folder / name for name in ("questions", "passages", "articles")}
        return {"weights": {"text": self.folder / "bert"}, **tables, **stores}

    @property
    def training(self):
        how = {"threads": 1, "save_steps": 7}
        return {**self.corpus, "qrels": self.qrels, "negatives": self.negatives, **how}

    @property
    def validation(self):
        mined = {"random": self.folder / "random-validation.parquet"}
        return {"validation_qrels": self.folder / "validation.trec", "validation_negatives": mined}

    def settings(self, method, kind="joint", **training):
        """An experiment's settings as a mapping; `training` overrides the defaults here."""
        visual = {"grid": [2, 2], "tokens": [2, 2]}
        model = {"kind": kind, "backbone": "toy", "visual": visual, "text": {"architecture": "bert", "separator": "."}}
        if kind == "image":
            del model["text"]
        if kind == "text":
            del model["backbone"], model["visual"]
        values = {
            "name": f"toy_{method}",
            "model": model,
            "tuning": small(method),
            "pooling": "avg",
            "tokens": {"question": 16, "passage": 16},
        }
        if method != "zs":
            values["training"] = {
                "steps": 60,
                "batch_size": 8,
                "negatives_per_question": 2,
                "negatives": {"random": 1.0},
                "learning_rate": 3e-3,
                "warmup_steps": 3,
                "loss": {"name": "dpr", "temperature": 0.1, "learned": True},
                **training,
            }
        return ExperimentSettings.model_validate(values).brief()

    def command(self, method, out, save_steps=7, **training):
        """The same training as a `vlret training train` command."""
        options = [f"--{name.replace('_', '-')}={path}" for name, path in self.corpus.items() if name != "weights"]
        options += [f"--weights=text={self.corpus['weights']['text']}"]
        options += [f"--qrels={self.qrels}", f"--negatives=random={self.negatives['random']}", f"--out={out}"]
        options += ["--threads=1", f"--save-steps={save_steps}"]
        settings = json.dumps(self.settings(method, **training))
        return ["training", "train", f"--settings={settings}", *options]

    def embedded(self, method, checkpoint=None, batch_size=4, kind="joint"):
        """The vectors of questions and passages of a checkpoint, by default a new one."""
        out = self.folder / "embeddings" / f"{method}-{kind}-{batch_size}"
        corpus = {**self.corpus, **({"weights": {}} if kind == "image" else {})}
        if checkpoint is None:
            checkpoint = self.folder / "checkpoints" / f"made-{method}-{kind}"
            train(settings=self.settings(method, kind), **{**self.training, **corpus}, out=checkpoint)
        self.embed(checkpoint, out, batch_size, dtype="float32", **corpus)
        return np.load(out / "questions.npy"), self.vectors(out)

    def embed(self, checkpoint, out, batch_size=4, dtype="float16", **corpus):
        """Embed questions and passages in the folder `out`."""
        given = {**self.corpus, **corpus}
        embed(checkpoint=checkpoint, **given, batch_size=batch_size, threads=1, dtype=dtype, out=out)

    @staticmethod
    def vectors(out, shards=("passages",)):
        """The vectors of passages in the folder `out`."""
        return Vectors.open([out / shard for shard in shards]).between(0, 10**9)

    def mean_rank(self, questions, passages):
        """Mean rank of the first relevant passage over the training questions."""
        relevant = read_qrels(self.qrels)
        ranks = []
        for vector, question in zip(questions, all_questions(self.questions)["id"], strict=True):
            if relevant.get(question):
                order = np.argsort(-(passages @ vector), kind="stable")
                ranks.append(np.flatnonzero(np.isin(order, list(relevant[question]))).min())
        return float(np.mean(ranks))

    def questions_by_image(self):
        """Pairs of questions with the same image."""
        images = all_questions(self.questions)["image"]
        return [(a, b) for a in range(len(images)) for b in range(a) if images[a] == images[b]]

    def _articles_and_passages(self):
        names = [f"thing{number}" for number in range(self.articles_count)]
        articles = {"id": names, "title": names, "paragraphs": [[n] for n in names], "image": self.article_images}
        Dataset.from_dict({**articles, "wikidata_id": names}).save_to_disk(self.folder / "articles")
        rows = [(thing, kind) for thing in range(self.articles_count) for kind in range(3)]
        texts = [
            f"{WORDS[kind]} {WORDS[3 + (7 * thing + kind) % 30]} " + " ".join(WORDS[:thing]) for thing, kind in rows
        ]
        passages = {"article": [t for t, _ in rows], "title": [names[t] for t, _ in rows], "text": texts}
        Dataset.from_dict(passages).save_to_disk(self.folder / "passages")

    def _questions(self):
        splits, qrels = {}, {}
        for place, split in enumerate(SPLITS):
            asked = [(thing, kind) for thing in range(THINGS) for kind in range(3)]
            ids = [f"{place}{thing:02d}{kind}" for thing, kind in asked]
            splits[split] = Dataset.from_dict(
                {
                    "id": ids,
                    "input": [f"{WORDS[kind]} of this" for _, kind in asked],
                    "original_question": [f"{WORDS[kind]} of thing{thing}" if thing else None for thing, kind in asked],
                    "article": [thing for thing, _ in asked],
                    "image": [f"q{thing}.jpg" for thing, _ in asked],
                    "wikidata_id": [f"thing{thing}" for thing, _ in asked],
                }
            )
            qrels[split] = {qid: {3 * thing + kind} for qid, (thing, kind) in zip(ids, asked, strict=True)}
            qrels[split][ids[-1]] = set()  # the last question of the last thing has no relevant passage
        DatasetDict(splits).save_to_disk(self.questions)
        write_qrels(self.qrels, qrels["train"])
        write_qrels(self.validation["validation_qrels"], qrels["validation"])

    @staticmethod
    def _mined(qrels, out):
        rows = {qid: [r for r in range(3 * THINGS) if r not in own][:20] for qid, own in read_qrels(qrels).items()}
        table = {"question": list(rows), "passages": pa.array(list(rows.values()), pa.list_(pa.int32()))}
        pq.write_table(pa.table(table), out)

    def _features(self):
        shown = self.random.random((THINGS, 4, 6))
        boxes = np.tile([0.0, 0.0, 1.0, 1.0], (4, 1))
        for folder, letter, ending in (("fq", "q", "jpg"), ("fa", "a", "png")):
            writer = FeatureWriter(self.folder / folder, 4, 6)
            noisy = shown + 0.05 * self.random.random(shown.shape)
            writer.add([f"{letter}{t}.{ending}" for t in range(THINGS)], noisy, np.tile(boxes, (THINGS, 1, 1)))
            writer.finish({"backbone": "toy"})

    def _bert(self):
        import torch

        torch.manual_seed(0)
        things = [f"thing{number}" for number in range(self.articles_count)]
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "of", "this", *WORDS, *things]
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)
        BertModel(config).save_pretrained(self.folder / "bert")
        (self.folder / "bert" / "vocab.txt").write_text("\n".join(vocabulary))
        BertTokenizer(vocab={word: row for row, word in enumerate(vocabulary)}).save_pretrained(self.folder / "bert")
