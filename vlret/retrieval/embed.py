"""Embed questions and passages with a trained checkpoint."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vlret.console import say
from vlret.digests import digests
from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.inputs import Side, prefetch, question_text
from vlret.encoders.precision import chosen
from vlret.encoders.vocabulary import tokenizer_of
from vlret.files import InputError, atomic, part_of, publish, remove, unfinished
from vlret.locks import locked
from vlret.retrieval.encode import encode, encode_in_windows, prepared, windows
from vlret.retrieval.vectors import VectorWriter, is_whole
from vlret.settings import Checkpoint, Precision
from vlret.training.corpus import Tables, article_side, passage_side, question_side
from vlret.tuning.pretrained import from_pretrained

# The text of every question under `no-text`; it carries no information.
NO_TEXT = "what is this?"
SAMPLED = 4096  # units of all shards whose vectors are also kept as they were encoded


def embed(
    checkpoint: Path,
    weights: Mapping[str, Path],
    questions: Path,
    passages: Path,
    articles: Path,
    question_features: Path | None,
    article_features: Path | None,
    batch_size: int,
    out: Path,
    **how: Any,
) -> None:
    """Embed a dataset: `questions.npy` and the folder `passages`, a single shard, in the folder `out`.

    Parameters and errors are those of `embed_questions` and `embed_passages`; `how` are further ones of the latter.
    """
    common = {"checkpoint": checkpoint, "weights": weights, "batch_size": batch_size}
    common |= {name: how[name] for name in ("precision", "threads") if name in how}
    embed_questions(**common, questions=questions, question_features=question_features, out=out / "questions.npy")
    searched = {"passages": passages, "articles": articles, "article_features": article_features}
    embed_passages(**{**how, **common, **searched}, out=out / "passages")


def embed_passages(
    checkpoint: Path,
    weights: Mapping[str, Path],
    passages: Path,
    articles: Path,
    article_features: Path | None,
    batch_size: int,
    out: Path,
    shard: str = "1-of-1",
    precision: Precision = "fp32",
    dtype: Literal["float16", "float32", "int8"] = "float16",
    threads: int = 2,
    keep: bool = True,
) -> None:
    """Embed passages: a shard of `vlret.retrieval.vectors`, in the folder `out`.

    Image and dual models embed articles instead; the vector of an article without an image is NaN. Vectors have length
    1. Texts longer than the settings' `tokens` or the model's positions are truncated; `embeddings.json` counts them
    (`cut`). An interrupted run is resumed by the same command, from a folder beside `out`, behind its last window.
    Windows do not depend on the shards, so neither do the vectors.

    Parameters
    ----------
    checkpoint
        The trained experiment.
    weights
        The weights it was trained from, as for `vlret.tuning.methods.build`.
    passages, articles, article_features
        The dataset's tables and feature store; a text model reads no store.
    batch_size
        Passages per batch.
    shard
        The part to embed: `2-of-4` is the second quarter of the windows.
    precision
        How products are computed; `auto` is bf16 where the machine computes it natively, else fp32.
    dtype
        How vectors are stored: int8 with a scale each.
    threads
        CPU threads.
    keep
        Whether an earlier result stays until this one is whole.
    out
        The folder to write.

    Raises
    ------
    InputError
        If the checkpoint, the published weights and the features do not fit together.
    """
    tables = Tables(None, passages, articles, None, article_features)
    model, settings, precision = _restore(checkpoint, weights, precision, threads)
    unit = "article" if settings.model.kind in ("image", "dual") else "passage"
    side = (article_side if unit == "article" else passage_side)(settings, tables, tokenizer_of(settings, weights))
    _check_width(side, settings, article_features)
    number, of = part_of(shard)
    spans = windows(len(side), batch_size, (number, of))
    described = {"unit": unit, "trained": settings.precision, "precision": precision}
    described["first"] = spans[0].start if spans else len(side)
    work = out.parent / f"{out.name}.unfinished"
    with locked(out.parent / f".{out.name}.lock") as lock:
        known = {**described, "shard": shard, "batch_size": batch_size, "dtype": dtype}
        read = {"checkpoint": checkpoint, "passages": passages, "articles": articles, "features": article_features}
        # The checkpoint states the digests of the weights, which are checked.
        unfinished(work, known, digests({name: path for name, path in read.items() if path}))
        if not is_whole(work / "shard"):
            writer = VectorWriter(work / "shard", dtype, max(1, len(side) // SAMPLED))
            left = [span for span in spans if span.start >= described["first"] + writer.units]
            if writer.units:
                say(f"{out}: resuming after {writer.units} of {sum(map(len, spans))} {unit}s")
            # Encoded in another thread, so that the next window does not wait for the disk.
            encoded = zip(left, encode_in_windows(model, side, batch_size, unit, precision, left), strict=True)
            for span, vectors in prefetch(encoded):
                lock.check()
                writer.add(vectors, sum(row in side.cut for row in span))
            _report_cut(writer.cut, writer.units, side.longest, unit)
            writer.finish(described)
        _move(work / "shard", out, keep)
        remove(work)


def embed_questions(
    checkpoint: Path,
    weights: Mapping[str, Path],
    questions: Path,
    question_features: Path | None,
    batch_size: int,
    out: Path,
    precision: Precision = "fp32",
    ablation: Literal["no-text", "no-image"] | None = None,
    threads: int = 2,
) -> None:
    """Embed all questions: `[questions, dim]` float32, splits in the order train, validation, test.

    Parameters
    ----------
    checkpoint, weights, precision, threads
        As for `embed_passages`.
    questions, question_features
        The dataset's questions and feature store; a text model reads no store.
    batch_size
        Questions per batch.
    ablation
        `no-text` gives every question the same text, `no-image` another question's image.
    out
        The file to write, `.npy`.

    Raises
    ------
    InputError
        As `embed_passages`.
    """
    tables = Tables(questions, None, None, question_features, None)
    model, settings, precision = _restore(checkpoint, weights, precision, threads)
    side = question_side(settings, tables, tokenizer_of(settings, weights))
    _check_width(side, settings, question_features)
    if ablation:
        side = without(side, ablation, settings)
    asked, of = side.distinct()
    vectors = encode(model, asked, batch_size, "question", precision)
    _report_cut(np.count_nonzero(np.isin(of, list(asked.cut))), len(side), side.longest, "question")
    with atomic(out) as aside, open(aside, "wb") as stream:
        np.save(stream, vectors[of])


def without(side: Side, ablation: str, settings: Checkpoint) -> Side:
    """Questions without their text (`no-text`) or without their image (`no-image`)."""
    texts, images = side.texts, side.images
    if ablation == "no-text":
        texts = [question_text(settings.prefix, NO_TEXT)] * len(side)
    else:
        images = shuffled(side.images, settings.seed)
    return Side(texts, images, side.features, side.tokenizer, side.limit)


def shuffled(images: np.ndarray, seed: int) -> np.ndarray:
    """`images` `[questions]`, shifted along a seeded random cycle, so that no question keeps its image.

    Questions about one image are neighbours on the cycle, which is shifted past the most of them. Some keep their
    image only if more than half of all questions share it.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    _, first, inverse, counts = np.unique(images[order], return_index=True, return_inverse=True, return_counts=True)
    order = order[np.argsort(first[inverse], kind="stable")]
    result = np.empty_like(images)
    result[order] = images[np.roll(order, counts.max(initial=1))]
    return result


def _report_cut(cut: int, units: int, longest: int, unit: str) -> None:
    """Say how many texts were truncated, if any were."""
    if cut:
        say(f"{unit}: {cut} of {units} texts were truncated to {longest} tokens")


def _move(folder: Path, out: Path, keep: bool) -> None:
    if keep:
        publish(folder, out)
    else:
        remove(out)
        os.replace(folder, out)


def _check_width(side: Side, settings: Checkpoint, path: Path | None) -> None:
    """Raise `InputError` if the features are not as wide as those that the model was trained on."""
    if None not in (side.features, settings.feature_dim) and side.features.dim != settings.feature_dim:
        raise InputError(f"{path}: features of width {side.features.dim}, trained on {settings.feature_dim}")


def _restore(
    checkpoint: Path, weights: Mapping[str, Path], precision: str, threads: int
) -> tuple[BiEncoder, Checkpoint, str]:
    """The model, ready to encode; its settings; and the precision that was chosen."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, settings = from_pretrained(checkpoint, weights)
    precision = chosen(precision, device, "embedding.precision")
    return prepared(model, precision, device), settings, precision
