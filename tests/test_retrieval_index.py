"""An index holds the rows with vectors, by inner product, with their row as id."""

import faiss
import numpy as np
import pytest

from vlret.files import InputError, write_json
from vlret.retrieval import index as retrieval_index
from vlret.retrieval import units
from vlret.retrieval.index import build


def written(folder, values):
    """A shard of any values."""
    np.save(folder / "vectors.npy", values)
    write_json(folder / "embeddings.json", {"unit": "passage", "units": len(values), "first": 0})
    return folder


def vectors(rows=50, dim=8):
    return np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)


@pytest.fixture
def index(tmp_path):
    def index(values, factory="IVF1,Flat"):
        build([written(tmp_path, values)], factory, 0, tmp_path / "out.faiss")
        return faiss.read_index(str(tmp_path / "out.faiss"))

    return index


@pytest.mark.parametrize("factory", ["IVF1,Flat", "IVF4,Flat", "HNSW8", "SQ8"])
def test_rows_of_nan_are_left_out_and_ids_are_rows(index, factory):
    values = vectors()
    values[[0, 7, 49]] = np.nan
    built = index(values, factory)
    assert built.metric_type == faiss.METRIC_INNER_PRODUCT
    assert built.ntotal == 47
    assert faiss.vector_to_array(built.id_map).tolist() == [row for row in range(50) if row not in (0, 7, 49)]
    if factory == "IVF1,Flat":
        scores, found = built.search(values[[8]], 47)
        np.testing.assert_allclose(scores[0], (values[found[0]] * values[8]).sum(1), rtol=1e-4, atol=1e-5)


def test_a_longer_vector_scores_higher(index):
    values = np.eye(3, 4, dtype=np.float32)
    values[2] = [5, 5, 0, 0]
    scores, found = index(values).search(values[[0]], 2)
    assert found.tolist() == [[2, 0]]
    assert scores.tolist() == [[5, 1]]


def test_the_same_bytes_each_time(index, tmp_path):
    index(vectors())
    first = (tmp_path / "out.faiss").read_bytes()
    index(vectors())
    assert (tmp_path / "out.faiss").read_bytes() == first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda values: values.__setitem__((3, 2), np.nan), "row 3: neither finite"),
        (lambda values: values.__setitem__(5, np.inf), "row 5: neither finite"),
        (lambda values: values.__setitem__(slice(None), np.nan), "no row holds a vector"),
    ],
)
def test_invalid_rows_are_rejected(index, tmp_path, spoil, message):
    values = vectors()
    spoil(values)
    with pytest.raises(InputError, match=message):
        index(values)
    assert not (tmp_path / "out.faiss").exists()


def test_exact_search_needs_no_index(index):
    with pytest.raises(InputError, match="'Flat' is exact search, which needs no index"):
        index(vectors(), "Flat")


@pytest.mark.parametrize("factory", ["IVF4,Flat", "PQ2x4"])
def test_it_is_trained_on_a_seeded_sample(index, tmp_path, monkeypatch, factory):
    monkeypatch.setattr(retrieval_index, "SAMPLE", 100)
    monkeypatch.setattr(retrieval_index, "SAMPLE_OF_A_CELL", 30)
    values = vectors(500)
    values[[1, 2]] = np.nan
    made = []
    for seed in (0, 0, 1):
        build([written(tmp_path, values)], factory, seed, tmp_path / "out.faiss")
        made.append((tmp_path / "out.faiss").read_bytes())
    assert made[0] == made[1] != made[2]
    assert faiss.read_index(str(tmp_path / "out.faiss")).ntotal == 498


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_vectors_of_every_width_are_read_in_chunks(index, monkeypatch, dtype):
    monkeypatch.setattr(units, "CHUNK", 7)
    values = vectors().astype(dtype)
    values[[6, 7, 20]] = np.nan
    built = index(values)
    assert faiss.vector_to_array(built.id_map).tolist() == [row for row in range(50) if row not in (6, 7, 20)]
    scores, found = built.search(values[[8]].astype(np.float32), 47)
    expected = values[found[0]].astype(np.float64) @ values[8].astype(np.float64)
    np.testing.assert_allclose(scores[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Flatt", "cannot hold 50 vectors of .*: could not parse index string Flatt"),
        ("", "cannot hold 50 vectors"),
        ("IVF9999,Flat", "has 9999 cells for 50 vectors"),
        ("IVF51,Flat", "has 51 cells for 50 vectors"),
        ("IVF99999999999999,Flat", "cannot hold 50 vectors"),
        ("PQ3", "cannot hold 50 vectors"),
        ("IVF0,Flat", "contains a count of 0"),
        ("HNSW0", "contains a count of 0"),
        ("RR0,Flat", "contains a count of 0"),
        ("IVF4,PQ00x4", "contains a count of 0"),
    ],
)
def test_an_invalid_factory_is_rejected(index, tmp_path, factory, message):
    with pytest.raises(InputError, match=rf"^retrieval\.index: '{factory}' {message}") as caught:
        index(vectors(), factory)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.faiss").exists()


def test_files_without_vectors_are_rejected(index, tmp_path):
    (written(tmp_path, vectors()) / "vectors.npy").unlink()
    with pytest.raises(InputError, match=r"vectors\.npy: cannot be read"):
        build([tmp_path], "SQ8", 0, tmp_path / "out.faiss")
    for values in (vectors()[0], np.zeros((3, 3), np.int64)):
        with pytest.raises(InputError, match="expected floats"):
            index(values)
