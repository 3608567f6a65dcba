"""Embed questions and passages with a trained checkpoint."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vlret.console import progress, say
from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.inputs import Side, prefetch, question_text
from vlret.encoders.vocabulary import tokenizer_of
from vlret.files import InputError, atomic, write_json
from vlret.settings import Checkpoint
from vlret.training.corpus import Tables, article_side, passage_side, question_side
from vlret.tuning.pretrained import from_pretrained

# The text of every question under `no-text`; it carries no information.
NO_TEXT = "what is this?"
WINDOW = 1 << 14  # units sorted by length at a time


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
    threads: int = 2,
) -> None:
    """Embed questions and passages: `questions.npy`, `passages.npy` and `embeddings.json` in the folder `out`.

    `questions.npy` is `[questions, dim]` float32, splits in the order train, validation, test. `passages.npy` is
    `[passages, dim]`, or `[articles, dim]` for image and dual models, whose `unit` in `embeddings.json` is the article;
    rows of articles without an image are NaN. Vectors have length 1. Texts longer than the settings' `tokens` or the
    model's positions are truncated; `embeddings.json` counts them (`cut`).

    Parameters
    ----------
    checkpoint
        The trained experiment.
    weights
        The published weights it was trained from, as for `vlret.encoders.assemble.assemble`.
    questions, passages, articles, question_features, article_features
        The dataset's tables and feature stores; a text model reads no stores.
    batch_size
        Questions or passages per batch.
    threads
        CPU threads.
    out
        The folder to write.

    Raises
    ------
    InputError
        If the checkpoint, the published weights and the features do not fit together.
    """
    tables = Tables(questions, passages, articles, question_features, article_features)
    model, settings, question_units = _restore(checkpoint, weights, tables, threads)
    unit = "article" if settings.model.kind in ("image", "dual") else "passage"
    side = article_side if unit == "article" else passage_side
    passage_units = side(settings, tables, question_units.tokenizer)
    with atomic(out, kept=True) as aside:
        aside.mkdir()
        np.save(aside / "questions.npy", encode(model, question_units, batch_size, "question"))
        _save(aside / "passages.npy", encode_in_windows(model, passage_units, batch_size, unit), len(passage_units))
        cut = {"question": _report_cut(question_units, "question"), unit: _report_cut(passage_units, unit)}
        write_json(aside / "embeddings.json", {"unit": unit, "cut": cut})


def _report_cut(side: Side, unit: str) -> int:
    """The number of truncated texts of a side, reported if there are any."""
    if side.cut:
        say(f"{unit}: {len(side.cut)} of {len(side)} texts were truncated to {side.longest} tokens")
    return len(side.cut)


def ablate(
    checkpoint: Path,
    weights: Mapping[str, Path],
    questions: Path,
    passages: Path,
    articles: Path,
    question_features: Path | None,
    article_features: Path | None,
    batch_size: int,
    kind: Literal["no-text", "no-image"],
    out: Path,
    threads: int = 2,
) -> None:
    """Embed questions without their text or image, in the format of `embed`.

    Parameters
    ----------
    checkpoint
        The trained experiment.
    weights
        The published weights it was trained from, as for `vlret.encoders.assemble.assemble`.
    questions, passages, articles, question_features, article_features
        The dataset's tables and feature stores; a text model reads no stores.
    batch_size
        Questions or passages per batch.
    threads
        CPU threads.
    kind
        `no-text` gives every question the same text, `no-image` another question's image.
    out
        The file to write, `.npy`.

    Raises
    ------
    InputError
        As `embed`.
    """
    tables = Tables(questions, passages, articles, question_features, article_features)
    model, settings, side = _restore(checkpoint, weights, tables, threads)
    if kind == "no-text":
        texts, images = [question_text(settings.prefix, NO_TEXT)] * len(side), side.images
    else:
        texts, images = side.texts, shuffled(side.images, settings.seed)
    ablated = Side(texts, images, side.features, side.tokenizer, side.limit)
    with atomic(out) as aside, open(aside, "wb") as stream:
        np.save(stream, encode(model, ablated, batch_size, "question"))


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


def encode(model: BiEncoder, side: Side, batch_size: int, unit: str) -> np.ndarray:
    """The vectors of a side, `[units, dim]` float32."""
    return np.concatenate(list(encode_in_windows(model, side, batch_size, unit)))


@torch.inference_mode()
def encode_in_windows(model: BiEncoder, side: Side, batch_size: int, unit: str) -> Iterator[np.ndarray]:
    """The vectors of a side in order, in windows `[units, dim]` float32; similar lengths are encoded together.

    Other threads tokenize texts and read features while the previous batch is encoded.
    """
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    vectors, start, left = np.empty((0, 0), np.float32), 0, 0
    for units, inputs in progress(_batches(side, batch_size), -(-len(side) // batch_size), " batches", unit):
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        batch = model.encode(unit if unit == "question" else "passage", inputs).float().cpu().numpy()
        if not left:
            left = min(_window(batch_size), len(side) - start)
            vectors = np.empty((left, batch.shape[1]), dtype=np.float32)
        vectors[units - start] = batch
        left -= len(units)
        if not left:
            yield vectors
            start += len(vectors)


def _save(path: Path, windows: Iterator[np.ndarray], units: int) -> None:
    """Write vectors of `units` to a `.npy` file incrementally, as those of a knowledge base do not fit in memory."""
    with open(path, "wb") as stream:
        for number, vectors in enumerate(windows):
            if number == 0:
                header = {"descr": vectors.dtype.str, "fortran_order": False, "shape": (units, vectors.shape[1])}
                np.lib.format.write_array_header_1_0(stream, header)
            vectors.tofile(stream)


def _window(batch_size: int) -> int:
    """The number of units sorted together, a multiple of the batch size."""
    return max(1, WINDOW // batch_size) * batch_size


def _batches(side: Side, batch_size: int) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """The units and inputs of each batch, sorted by length within windows, to hold only a window's texts."""
    size = _window(batch_size)
    spans = (np.arange(start, min(start + size, len(side))) for start in range(0, len(side), size))
    windows = prefetch((units, side.tokens(units)) for units in spans)
    for units, batches in ((units, side.batches(units, batch_size, tokens)) for units, tokens in windows):
        for places, inputs in prefetch(batches):
            yield units[places], inputs


def _restore(
    checkpoint: Path, weights: Mapping[str, Path], tables: Tables, threads: int
) -> tuple[BiEncoder, Checkpoint, Side]:
    model, settings = from_pretrained(checkpoint, weights)
    torch.set_num_threads(threads)
    side = question_side(settings, tables, tokenizer_of(settings, weights))
    dim = None if side.features is None else side.features.dim
    if settings.feature_dim not in (None, dim):
        raise InputError(f"{tables.question_features}: features of width {dim}, trained on {settings.feature_dim}")
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), settings, side
