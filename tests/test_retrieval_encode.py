"""Vectors are in the order of the units and do not depend on batching."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import Read

from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.inputs import Side, prefetch
from vlret.encoders.t5 import T5, T5Config
from vlret.encoders.visual import VisualEmbedding
from vlret.retrieval import embed

UNITS, REGIONS, DIM = 23, 3, 5


class Letters:
    """A tokenizer with one id per letter that counts its calls."""

    pad_token_id, model_max_length = 0, 10**9

    def __init__(self):
        self.calls = 0

    def __call__(self, texts, truncation, max_length):
        self.calls += 1
        return Read([[ord(letter) - 95 for letter in text] for text in texts], max_length)


class Stored:
    """Features as from a store: float16, only existing rows, with varying numbers of regions."""

    regions, dim = REGIONS, DIM

    def __init__(self):
        rng = np.random.default_rng(0)
        self.features = rng.random((UNITS, REGIONS, DIM)).astype(np.float16)
        self.boxes = rng.random((UNITS, REGIONS, 4), dtype=np.float32)
        self.counts = rng.integers(0, REGIONS + 1, UNITS)

    def read(self, rows):
        assert (rows >= 0).all()
        return self.features[rows], self.boxes[rows]


@pytest.fixture
def side():
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("abcdef"), rng.integers(1, 12))) for _ in range(UNITS)]
    images = rng.permutation(UNITS)
    images[[4, 9]] = -1
    return Side(texts, images, Stored(), Letters(), limit=9)


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = T5(T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4))
    encoder.encoder.visual_embedding = VisualEmbedding(DIM, 16, T5.visual_norm, order=True)
    return BiEncoder(Tower(encoder, "avg"))


def one_by_one(model, side):
    """Reference vectors: each unit encoded alone, without sorting, padding or threads."""
    vectors = []
    for text, row in zip(side.texts, side.images, strict=True):
        inputs = {"input_ids": torch.tensor([side.tokenizer([text], True, side.limit)["input_ids"][0]])}
        if row >= 0 and (count := side.features.counts[row]):
            inputs["features"] = torch.from_numpy(side.features.features[[row], :count].astype(np.float32))
            inputs["boxes"] = torch.from_numpy(side.features.boxes[[row], :count])
        with torch.no_grad():
            vectors.append(model.eval().encode("passage", inputs)[0].numpy())
    return np.stack(vectors)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("window", [5, 1 << 14])
def test_vectors_equal_those_of_units_encoded_alone(model, side, monkeypatch, batch_size, window):
    monkeypatch.setattr(embed, "WINDOW", window)
    vectors = embed.encode(model, side, batch_size, "passage")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, one_by_one(model, side), atol=2e-6)


def test_units_with_truncated_texts_are_counted_once(model, side):
    embed.encode(model, side, 4, "passage")
    embed.encode(model, side, 7, "passage")
    assert side.cut == {unit for unit, text in enumerate(side.texts) if len(text) > 9}
    assert 0 < len(side.cut) < UNITS
    side.tokenizer.model_max_length = 5
    assert max(map(len, side.tokens(range(UNITS)))) == 5
    assert replace(side, limit=3).cut == set()


def test_a_windows_texts_are_tokenized_together(model, side, monkeypatch):
    monkeypatch.setattr(embed, "WINDOW", 8)
    embed.encode(model, side, 4, "passage")
    assert side.tokenizer.calls == 3


def test_batches_are_sorted_by_length_longest_first(side):
    lengths = np.minimum([len(text) for text in side.texts], side.limit)
    batches = list(side.batches(range(UNITS), 4))
    assert sorted(np.concatenate([places for places, _ in batches])) == list(range(UNITS))
    shown = [lengths[places] for places, _ in batches]
    assert all(before.min() >= after.max() for before, after in pairwise(shown))
    for own, (_, inputs) in zip(shown, batches, strict=True):
        assert inputs["input_ids"].shape == (len(own), own.max())
        assert inputs["attention_mask"].sum(dim=1).tolist() == own.tolist()


def test_groups_restore_the_order(side):
    units = [7, 3, 3, 22, 0, 11]
    groups, order = side.groups(units, 4)
    features = torch.cat([group["features"] for group in groups])[order]
    expected = side.inputs(units)
    assert torch.equal(features, expected["features"])
    lengths = torch.cat([group["attention_mask"].sum(dim=1) for group in groups])[order]
    assert torch.equal(lengths, expected["attention_mask"].sum(dim=1))


def test_a_prefetching_error_is_not_swallowed():
    def items():
        yield 1
        raise OSError("the disk is gone")

    made = prefetch(items())
    assert next(made) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(made)


def test_vectors_are_written_incrementally_and_read_back(model, side, monkeypatch, tmp_path):
    monkeypatch.setattr(embed, "WINDOW", 5)
    expected = embed.encode(model, side, 2, "passage")
    windows = embed.encode_in_windows(model, side, 2, "passage")
    first = next(windows)
    assert len(first) == 4  # full batches, not all units
    embed._save(tmp_path / "vectors.npy", (one for one in [first, *windows]), UNITS)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), expected)
