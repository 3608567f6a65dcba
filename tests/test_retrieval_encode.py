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
from vlret.retrieval import encode as encoding
from vlret.retrieval.encode import encode, encode_in_windows, windows

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
    monkeypatch.setattr(encoding, "WINDOW", window)
    vectors = encode(model, side, batch_size, "passage")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, one_by_one(model, side), atol=2e-6)


def test_units_with_truncated_texts_are_counted_once(model, side):
    encode(model, side, 4, "passage")
    encode(model, side, 7, "passage")
    assert side.cut == {unit for unit, text in enumerate(side.texts) if len(text) > 9}
    assert 0 < len(side.cut) < UNITS
    side.tokenizer.model_max_length = 5
    assert max(map(len, side.tokens(range(UNITS)))) == 5
    assert replace(side, limit=3).cut == set()


def test_a_windows_texts_are_tokenized_together(model, side, monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 8)
    encode(model, side, 4, "passage")
    assert side.tokenizer.calls == 3


def test_batches_are_sorted_by_length_longest_first_and_those_without_an_image_are_apart(side):
    lengths = np.minimum([len(text) for text in side.texts], side.limit)
    batches = list(side.batches(range(UNITS), 4))
    assert sorted(np.concatenate([places for places, _ in batches])) == list(range(UNITS))
    assert [set(places) for places, inputs in batches if "features" not in inputs] == [{4, 9}]
    shown = [lengths[places] for places, _ in batches]
    assert all(before.min() >= after.max() for before, after in pairwise(shown[:-1]))
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


def test_windows_are_whole_batches_and_shards_share_them(model, side, monkeypatch):
    monkeypatch.setattr(encoding, "WINDOW", 5)
    assert windows(UNITS, 2) == [range(start, min(start + 4, UNITS)) for start in range(0, UNITS, 4)]
    expected = encode(model, side, 2, "passage")
    for of in (1, 2, 3, 6, 9):
        spans = [windows(UNITS, 2, (number, of)) for number in range(1, of + 1)]
        assert [span for part in spans for span in part] == windows(UNITS, 2)
        made = [one for part in spans for one in encode_in_windows(model, side, 2, "passage", spans=part)]
        np.testing.assert_array_equal(np.concatenate(made), expected)


def test_an_image_is_embedded_once_in_a_window(model, side, monkeypatch):
    seen = []
    embedding = model.question.encoder.encoder.visual_embedding
    embedding.register_forward_hook(lambda module, inputs, output: seen.append(len(output[0])))
    repeated = replace(side, images=side.images % 3)
    repeated.images[[4, 9]] = -1
    monkeypatch.setattr(encoding, "WINDOW", 12)
    vectors = encode(model, repeated, 4, "passage")
    assert sum(seen) == 2 * 3
    np.testing.assert_allclose(vectors, one_by_one(model, repeated), atol=2e-6)


def test_equal_units_are_encoded_once(side):
    repeated = replace(side, texts=[text[:1] for text in side.texts], images=side.images % 2)
    distinct, of = repeated.distinct()
    pairs = [*zip(repeated.texts, repeated.images.tolist(), strict=True)]
    assert [(distinct.texts[place], distinct.images[place]) for place in of] == pairs
    assert len(distinct) == len(set(pairs)) < UNITS
    for without, kept in (({"texts": None}, "images"), ({"images": None}, "texts")):
        alone, of = replace(repeated, **without).distinct()
        assert [getattr(alone, kept)[place] for place in of] == [*getattr(repeated, kept)]
        assert len(alone) == len({*getattr(repeated, kept)})


def test_bf16_is_close_to_fp32(model, side):
    exact, rounded = (encode(model, side, 4, "passage", precision) for precision in ("fp32", "bf16"))
    assert rounded.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    assert (exact * rounded).sum(axis=1).min() > 0.999
