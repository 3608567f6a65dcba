"""From a checkpoint to one vector a question and one vector a passage."""

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
from vlret.files import InputError, whole, write_json
from vlret.settings import Checkpoint
from vlret.training.corpus import Tables, article_side, passage_side, question_side
from vlret.tuning.pretrained import from_pretrained

# What every question's text is under `no-text`: it asks nothing.
NO_TEXT = "what is this?"
WINDOW = 1 << 14  # units that are sorted by length


def embed(
    checkpoint: Path,
    weights: Mapping[str, Path],
    questions: Path,
    passages: Path,
    articles: Path,
    question_features: Path | None,
    article_features: Path | None,
    batch_size: int,
    threads: int,
    out: Path,
) -> None:
    """Write `questions.npy`, `passages.npy` and `embeddings.json` into the folder `out`.

    `questions.npy` is `[questions, dim]` float32, splits in the order train, validation, test. `passages.npy` is
    `[passages, dim]`, or `[articles, dim]` for an image model or a dual one, whose unit is the article
    (`embeddings.json`); a row of NaN is an article without an image. Vectors have length 1. A text that is longer than
    `tokens` of the settings, or than the model has positions, is cut; `embeddings.json` has how many were (`cut`).

    Parameters
    ----------
    checkpoint
        The trained experiment.
    weights
        The published weights that it was trained from, as `vlret.encoders.assemble.assemble` takes them.
    questions, passages, articles, question_features, article_features
        The dataset's tables and feature stores; no stores for a text model.
    batch_size
        Questions or passages that are encoded at a time.
    threads
        Of the computation.
    out
        The folder to write.

    Raises
    ------
    InputError
        If the checkpoint, the published weights and the features do not fit each other.
    """
    tables = Tables(questions, passages, articles, question_features, article_features)
    model, settings, asked = _restore(checkpoint, weights, tables, threads)
    unit = "article" if settings.model.kind in ("image", "dual") else "passage"
    side = article_side if unit == "article" else passage_side
    answers = side(settings, tables, asked.tokenizer)
    with whole(out, kept=True) as aside:
        aside.mkdir()
        np.save(aside / "questions.npy", encode(model, asked, batch_size, "question"))
        _save(aside / "passages.npy", encode_in_windows(model, answers, batch_size, unit), len(answers))
        cut = {"question": _told_cut(asked, "question"), unit: _told_cut(answers, unit)}
        write_json(aside / "embeddings.json", {"unit": unit, "cut": cut})


def _told_cut(side: Side, unit: str) -> int:
    """How many texts of a side were cut, which is said where there are some."""
    if side.cut:
        say(f"{unit}: {len(side.cut)} of {len(side)} texts were longer than {side.longest} tokens, and are cut")
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
    threads: int,
    kind: Literal["no-text", "no-image"],
    out: Path,
) -> None:
    """Write the questions' vectors with one side of the questions taken away, as `embed` writes the whole ones.

    Parameters
    ----------
    checkpoint
        The trained experiment.
    weights
        The published weights that it was trained from, as `vlret.encoders.assemble.assemble` takes them.
    questions, passages, articles, question_features, article_features
        The dataset's tables and feature stores; no stores for a text model.
    batch_size
        Questions or passages that are encoded at a time.
    threads
        Of the computation.
    kind
        `no-text`, the same text for every question, or `no-image`, every question with another's image.
    out
        The file to write, `.npy`.

    Raises
    ------
    InputError
        As `embed`.
    """
    tables = Tables(questions, passages, articles, question_features, article_features)
    model, settings, asked = _restore(checkpoint, weights, tables, threads)
    if kind == "no-text":
        texts, images = [question_text(settings.prefix, NO_TEXT)] * len(asked), asked.images
    else:
        texts, images = asked.texts, shuffled(asked.images, settings.seed)
    ablated = Side(texts, images, asked.features, asked.tokenizer, asked.limit)
    with whole(out) as aside, open(aside, "wb") as stream:
        np.save(stream, encode(model, ablated, batch_size, "question"))


def shuffled(images: np.ndarray, seed: int) -> np.ndarray:
    """`images` `[questions]`, each moved one on along a seeded random cycle, so that no question keeps its own."""
    order = np.random.default_rng(seed).permutation(len(images))
    result = np.empty_like(images)
    result[order] = images[np.roll(order, 1)]
    return result


def encode(model: BiEncoder, side: Side, batch_size: int, unit: str) -> np.ndarray:
    """The vectors of a side, `[units, dim]` float32."""
    return np.concatenate(list(encode_in_windows(model, side, batch_size, unit)))


@torch.inference_mode()
def encode_in_windows(model: BiEncoder, side: Side, batch_size: int, unit: str) -> Iterator[np.ndarray]:
    """The vectors of a side in order, `[units of a window, dim]` float32 at a time, like lengths encoded together.

    Texts are tokenised, and features read, by other threads while the batch before them is encoded.
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
    """Write the vectors of `units` as a `.npy` file as they come: those of a knowledge base do not fit in memory."""
    with open(path, "wb") as stream:
        for number, vectors in enumerate(windows):
            if number == 0:
                header = {"descr": vectors.dtype.str, "fortran_order": False, "shape": (units, vectors.shape[1])}
                np.lib.format.write_array_header_1_0(stream, header)
            vectors.tofile(stream)


def _window(batch_size: int) -> int:
    """How many units are sorted together: whole batches."""
    return max(1, WINDOW // batch_size) * batch_size


def _batches(side: Side, batch_size: int) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """The units and inputs of each batch, sorted within windows, so that only a window's texts are held."""
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
    asked = question_side(settings, tables, tokenizer_of(settings, weights))
    dim = None if asked.features is None else asked.features.dim
    if settings.feature_dim not in (None, dim):
        raise InputError(f"{tables.question_features}: features of width {dim}, trained on {settings.feature_dim}")
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), settings, asked
