"""Benchmark inputs: random passages split like ViQuAE's, features, t5-base's sizes.

Sentence lengths are log-normal with a median of 20 tokens, as in English Wikipedia's leads. An article has a median of
20 sentences, hence about eight passages, as in ViQuAE's knowledge base. A word has 1.4 pieces, about as Wikipedia with
T5's vocabulary. The longest of 128 consecutive passages is 1.42 times the mean; for those leads, five per article, 1.48
was measured.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import T5Tokenizer

from vlret.data.passages import by_tokens
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.inputs import Side, passage_text
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.visual import VisualEmbedding
from vlret.features.store import FeatureStore, FeatureWriter

REGIONS, FEATURE_DIM, LIMIT = 36, 2048, 512
T5_BASE = T5Config(vocab_size=32200, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
PASSAGE_TOKENS = 100  # as counted by vlret.data.passages
SYLLABLES = [onset + vowel + coda for onset in "bdfgklmnprstvz" for vowel in "aeiou" for coda in ("", "n", "r")]
WHOLE = 4_000  # words of one piece


@dataclass(frozen=True)
class Passages:
    """Passages in the order of their articles.

    Attributes
    ----------
    texts
        Title, separator and text of each.
    articles
        `[passages]`, the article of each.
    """

    texts: list[str]
    articles: np.ndarray


def vocabulary() -> list[str]:
    """Words of one and two syllables, the commonest first."""
    pairs = ["".join(pair) for pair in product(SYLLABLES, repeat=2)]
    return [*SYLLABLES, *np.random.default_rng(0).permutation(pairs).tolist()]


def tokenizer() -> T5Tokenizer:
    """A T5 tokenizer: common words are one piece, others one per syllable."""
    common = [(f"▁{word}", -5.0) for word in vocabulary()[:WHOLE]]
    syllables = [(start + syllable, -9.0) for syllable in SYLLABLES for start in ("▁", "")]
    pieces = dict([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -12.0), (".", -4.0), *common, *syllables])
    return T5Tokenizer(vocab=list(pieces.items()), extra_ids=0)


def passages(count: int) -> Passages:
    """`count` random passages; articles differ in their share of rare words."""
    random, words = np.random.default_rng(1), np.array(vocabulary())
    common, rare = words[:WHOLE], words[WHOLE:]
    frequency = 1 / np.arange(10, WHOLE + 10)
    texts, articles = [], []
    for article in range(count):
        sentences = random.lognormal(np.log(20), 0.5, 1 + int(random.lognormal(np.log(20), 0.8))).astype(int) + 2
        drawn = random.choice(common, sentences.sum(), p=frequency / frequency.sum())
        drawn = np.where(random.random(len(drawn)) < random.beta(3, 6), random.choice(rare, len(drawn)), drawn)
        cut = [" ".join(part) + "." for part in np.split(drawn, np.cumsum(sentences)[:-1])]
        title = " ".join(random.choice(rare, 2))
        cut = by_tokens(" ".join(cut), PASSAGE_TOKENS)
        texts += [passage_text("", title, ".", text) for text in cut]
        articles += [article] * len(cut)
        if len(texts) >= count:
            return Passages(texts[:count], np.array(articles[:count]))
    raise AssertionError("an article has at least one passage")


def model(config: T5Config = T5_BASE, visual: bool = True) -> BiEncoder:
    """A random bi-encoder with average pooling, and VL-T5's visual embedding if `visual`."""
    torch.manual_seed(0)
    encoder = T5(config)
    if visual:
        encoder.encoder.visual_embedding = VisualEmbedding(FEATURE_DIM, config.d_model, T5.visual_norm, order=True)
    return BiEncoder(Tower(encoder, "avg")).eval()


def features(folder: Path, articles: int) -> FeatureStore:
    """Random features of `articles` images in our store, in `folder`."""
    random = np.random.default_rng(2)
    folder.mkdir(exist_ok=True)
    writer = FeatureWriter(folder / "store", REGIONS, FEATURE_DIM)
    for row in range(articles):
        values = random.random((1, REGIONS, FEATURE_DIM), dtype=np.float32)
        writer.add([str(row)], values, random.random((1, REGIONS, 4), dtype=np.float32))
    writer.finish({"backbone": "random"})
    return FeatureStore.open(folder / "store")


def listed(store: FeatureStore, folder: Path) -> datasets.Dataset:
    """The same features as cvlp's columns of lists, in `folder`."""
    lists = datasets.List(datasets.List(datasets.Value("float32")))
    columns = datasets.Features({"features": lists, "boxes": lists})
    datasets.disable_progress_bars()
    values = (array.tolist() for array in store.read(np.arange(len(store))))
    datasets.Dataset.from_dict(dict(zip(("features", "boxes"), values, strict=True)), features=columns).save_to_disk(
        str(folder / "table")
    )
    return datasets.load_from_disk(str(folder / "table"))


def side(of: Passages, store: FeatureStore | None) -> Side:
    """The passages as one side of a bi-encoder, with their articles' features if a store is given."""
    return Side(of.texts, None if store is None else of.articles, store, tokenizer(), LIMIT)


def lengths(of: Passages) -> str:
    """What the texts are like, in a line."""
    tokens = np.array([len(ids) for ids in side(of, None).tokens(range(len(of.texts)))])
    words = np.mean([len(text.split()) for text in of.texts])
    spread = ", ".join(f"{share}%: {np.percentile(tokens, share):.0f}" for share in (1, 50, 99))
    return f"{len(tokens)} passages of {words:.0f} words, {tokens.mean():.0f} tokens ({spread})"
