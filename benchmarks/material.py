"""What the contestants of a benchmark work on: random passages cut as ViQuAE's are, features, t5-base's shape.

Sentences are log-normal, 20 tokens in the median, as in English Wikipedia's leads, and an article has 20 of them in
the median, so that it makes about the eight passages that an article of ViQuAE's knowledge base does. A word has 1.4
pieces, about what T5's vocabulary makes of Wikipedia, and the longest passage of 128 in a row is 1.42 times as long
as the mean; for those leads, five made one article, 1.48 times were measured. Run alone, this says how long they are.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
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
PASSAGE_TOKENS = 100  # as vlret.data.passages counts them
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
    """Words of one and of two syllables, the commonest first."""
    pairs = ["".join(pair) for pair in product(SYLLABLES, repeat=2)]
    return [*SYLLABLES, *np.random.default_rng(0).permutation(pairs).tolist()]


def tokenizer() -> T5Tokenizer:
    """A tokenizer of T5's kind: common words are one piece, others are made of syllables."""
    common = [(f"▁{word}", -5.0) for word in vocabulary()[:WHOLE]]
    syllables = [(start + syllable, -9.0) for syllable in SYLLABLES for start in ("▁", "")]
    pieces = dict([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -12.0), (".", -4.0), *common, *syllables])
    return T5Tokenizer(vocab=list(pieces.items()), extra_ids=0)


def passages(count: int) -> Passages:
    """`count` random passages; articles differ in how many of their words are rare."""
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
    raise AssertionError("an article makes at least one passage")


def model(config: T5Config = T5_BASE, visual: bool = True) -> BiEncoder:
    """A random bi-encoder that averages; with a visual embedding of VL-T5's if `visual`."""
    torch.manual_seed(0)
    encoder = T5(config)
    if visual:
        encoder.encoder.visual_embedding = VisualEmbedding(FEATURE_DIM, config.d_model, T5.visual_norm, order=True)
    return BiEncoder(Tower(encoder, "avg")).eval()


def features(folder: Path, articles: int) -> FeatureStore:
    """Random features of `articles` images as our store, in `folder`."""
    random = np.random.default_rng(2)
    folder.mkdir(exist_ok=True)
    writer = FeatureWriter(folder / "store", REGIONS, FEATURE_DIM)
    for row in range(articles):
        values = random.random((1, REGIONS, FEATURE_DIM), dtype=np.float32)
        writer.add([str(row)], values, random.random((1, REGIONS, 4), dtype=np.float32))
    writer.finish({"backbone": "random"})
    return FeatureStore.open(folder / "store")


def listed(store: FeatureStore, folder: Path) -> datasets.Dataset:
    """The same features as the columns of lists that cvlp keeps, in `folder`."""
    lists = datasets.List(datasets.List(datasets.Value("float32")))
    columns = datasets.Features({"features": lists, "boxes": lists})
    datasets.disable_progress_bars()
    values = (array.tolist() for array in store.read(np.arange(len(store))))
    datasets.Dataset.from_dict(dict(zip(("features", "boxes"), values, strict=True)), features=columns).save_to_disk(
        str(folder / "table")
    )
    return datasets.load_from_disk(str(folder / "table"))


def side(of: Passages, store: FeatureStore | None) -> Side:
    """The passages as one side of a bi-encoder, with the features of their articles where a store is given."""
    return Side(of.texts, None if store is None else of.articles, store, tokenizer(), LIMIT)


def options(description: str, layers: int = T5_BASE.num_layers, rounds: int = 3, **counts: int) -> argparse.Namespace:
    """The options of a benchmark, among them how many there are of what `counts` names; sets the threads."""
    parser = argparse.ArgumentParser(description=description)
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--layers", type=int, default=layers)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="where the machine does other things too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def contest(contestants: Mapping[str, Callable[[], object]], given: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each contestant; they take turns, so that what else the machine does hits all alike."""
    clock = time.process_time if given.cpu_time else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(given.rounds):
        for name, run in contestants.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main():
    drawn = passages(2000)
    tokens = np.array([len(ids) for ids in side(drawn, None).tokens(range(2000))])
    words = np.mean([len(text.split()) for text in drawn.texts])
    spread = ", ".join(f"{share}%: {np.percentile(tokens, share):.0f}" for share in (1, 10, 50, 90, 99, 100))
    print(f"2000 passages of {words:.0f} words, {tokens.mean():.0f} tokens ({spread})")
    print(f"{2000 / (drawn.articles.max() + 1):.1f} passages an article; the longest of 128 in a row has")
    print(f"{tokens[: 128 * 15].reshape(-1, 128).max(axis=1).mean():.0f} tokens on average")


if __name__ == "__main__":
    main()
