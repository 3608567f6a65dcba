"""An index holds the rows that are vectors, under inner product, with their row for an id."""

import faiss
import numpy as np
import pytest

from vlret.files import InputError
from vlret.retrieval.index import build


def vectors(rows=50, dim=8):
    return np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)


@pytest.fixture
def index(tmp_path):
    def index(values, factory="Flat"):
        np.save(tmp_path / "passages.npy", values)
        build(tmp_path, factory, tmp_path / "out.faiss")
        return faiss.read_index(str(tmp_path / "out.faiss"))

    return index


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW8"])
def test_rows_of_nan_are_left_out_and_the_others_keep_their_number(index, factory):
    values = vectors()
    values[[0, 7, 49]] = np.nan
    built = index(values, factory)
    assert built.metric_type == faiss.METRIC_INNER_PRODUCT
    assert built.ntotal == 47
    assert faiss.vector_to_array(built.id_map).tolist() == [row for row in range(50) if row not in (0, 7, 49)]
    if factory == "Flat":
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
        (lambda values: values.__setitem__((3, 2), np.nan), "row 3: not finite"),
        (lambda values: values.__setitem__(5, np.inf), "row 5: not finite"),
        (lambda values: values.__setitem__(slice(None), np.nan), "no row holds a vector"),
    ],
)
def test_rows_that_are_no_vectors(index, tmp_path, spoil, message):
    values = vectors()
    spoil(values)
    with pytest.raises(InputError, match=message):
        index(values)
    assert not (tmp_path / "out.faiss").exists()


@pytest.mark.parametrize("factory", ["Flatt", "IVF9999,Flat"])
def test_a_factory_that_cannot_be_built(index, factory):
    with pytest.raises(InputError, match=factory) as caught:
        index(vectors(), factory)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_vectors(index, tmp_path):
    with pytest.raises(InputError, match=r"passages\.npy: cannot be read"):
        build(tmp_path, "Flat", tmp_path / "out.faiss")
    for values in (vectors()[0], np.zeros((3, 3), np.int64)):
        with pytest.raises(InputError, match="expected floats"):
            index(values)
