"""The speed of encoding passages relative to cvlp's approach, `sentence-transformers`, and bf16.

All have the same weights, texts, features and threads, compute the same vectors, and take turns in one process. The
default number of passages takes about six minutes on two idle cores; `--passages 2000` is the full comparison. Ours
uses batches of 8: larger ones gain nothing on a CPU, and their states outgrow the allocator's cache.
"""

import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
import transformers
from bench import contest, options, ratio
from material import LIMIT, T5_BASE, features, lengths, listed, model, passages, side, tokenizer
from reference import eager, embed
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.t5 import T5Config
from vlret.retrieval.encode import encode

BATCH, BATCHES, CHECKED = 8, (8, 32), 16


def single(ours: BiEncoder, of) -> np.ndarray:
    return encode(ours, of, BATCH, "passage")


def lowered(ours: BiEncoder, of) -> np.ndarray:
    """In bf16 by autocast, with fp32 parameters."""
    with torch.autocast("cpu", torch.bfloat16):
        return single(ours, of)


def against_cvlp(given: Namespace, config: T5Config, folder: Path) -> None:
    count = given.passages
    drawn, ours = passages(count), model(config)
    print(f"  {lengths(drawn)}")
    reference, tokens = eager(ours), tokenizer()
    store = features(folder, drawn.articles.max() + 1)
    table = listed(store, folder)
    of = side(drawn, store)
    few = side(replace(drawn, texts=drawn.texts[:CHECKED]), store)
    vectors = single(ours, few)
    np.testing.assert_allclose(vectors, embed(reference, few.texts, drawn.articles, table, tokens), atol=2e-5)
    similar = (lowered(ours, few) * vectors).sum(axis=1).min()
    seconds = contest(
        {
            "cvlp": lambda: embed(reference, drawn.texts, drawn.articles, table, tokens),
            "ours": lambda: single(ours, of),
            "bf16": lambda: lowered(ours, of),
        },
        given,
    )
    ratio("passages with visual features encoded, fp32", seconds["cvlp"] / seconds["ours"], "cvlp's approach")
    ratio("the same in bf16", seconds["ours"] / seconds["bf16"], "ours in fp32")
    print(f"  smallest cosine of bf16 to fp32 {similar:.4f}")
    print(f"  ours {count / seconds['ours']:.1f} passages/s, cvlp's {count / seconds['cvlp']:.1f}")


def published(ours: BiEncoder, config: T5Config, folder: Path) -> SentenceTransformer:
    """The text encoder in `sentence-transformers`, from a folder in the published layout."""
    sizes = dict(vars(config))
    theirs = transformers.T5Config(**{name: sizes[name] for name in sizes if not name.startswith("num_decoder")})
    encoder = transformers.T5EncoderModel(theirs)
    absent = encoder.load_state_dict(ours.question.encoder.state_dict(), strict=False).missing_keys
    assert set(absent) <= {"encoder.embed_tokens.weight"}, absent
    encoder.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=LIMIT)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")


def against_sentence_transformers(given: Namespace, config: T5Config, folder: Path) -> None:
    drawn, ours = passages(given.passages), model(config, visual=False)
    of, theirs = side(drawn, None), published(ours, config, folder)
    few = drawn.texts[:CHECKED]
    np.testing.assert_allclose(single(ours, replace(of, texts=few)), theirs.encode(few), atol=2e-5)
    contestants = {size: lambda size=size: theirs.encode(drawn.texts, batch_size=size) for size in BATCHES}
    seconds = contest({"ours": lambda: single(ours, of), **contestants}, given)
    best = min(BATCHES, key=seconds.get)
    peer = f"sentence-transformers {sentence_transformers.__version__}"
    ratio("passages of text encoded, fp32", seconds[32] / seconds["ours"], f"{peer}, batches of 32")
    ratio("passages of text encoded, fp32", seconds[best] / seconds["ours"], f"{peer}, its best batches")


def main():
    given = options(__doc__, rounds=(2, 1), passages=(256, 16), layers=(12, 1))
    config = replace(T5_BASE, num_layers=given.layers)
    print(f"  t5-base with {given.layers} layers, medians of {given.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        against_cvlp(given, config, Path(folder))
        against_sentence_transformers(given, config, Path(folder) / "published")


if __name__ == "__main__":
    main()
