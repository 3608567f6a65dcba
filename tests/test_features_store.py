"""What is written into a feature store is what is read, by name, and nothing half-written opens."""

import numpy as np
import pytest

from vlret.features.store import FeatureStore, FeatureWriter
from vlret.files import InputError, whole

REGIONS, DIM = 3, 5


def arrays(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((images, REGIONS, DIM)).astype(np.float32)
    return features, rng.random((images, REGIONS, 4), dtype=np.float32)


@pytest.fixture
def written(tmp_path):
    features, boxes = arrays(12)
    with whole(tmp_path / "store") as aside:
        writer = FeatureWriter(aside, REGIONS, DIM)
        writer.add([f"{row}.png" for row in range(9)], features[:9], boxes[:9])
        writer.leave_out("bad.png", "broken")
        writer.add(["9.png", "10.png", "11.png"], features[9:], boxes[9:])
        writer.finish({"backbone": "toy"})
    return FeatureStore.open(tmp_path / "store"), features, boxes


def test_round_trip_through_a_header_that_grew(written):
    store, features, boxes = written
    assert (len(store), store.regions, store.dim) == (12, REGIONS, DIM)
    assert store.features.dtype == np.float16
    assert isinstance(store.features, np.memmap)
    np.testing.assert_array_equal(store.features, features.astype(np.float16))
    np.testing.assert_array_equal(store.boxes, boxes)
    assert store.description == {"backbone": "toy", "dtype": "float16"}
    assert store.names == [f"{row}.png" for row in range(12)]


def test_rows_by_name(written):
    store, _, _ = written
    assert store.row("10.png") == 10
    assert store.row("bad.png") is None
    assert store.row(None) is None
    rows = store.rows(["3.png", None, "bad.png", "3.png", "0.png"])
    assert rows.dtype == np.int64
    assert rows.tolist() == [3, -1, -1, 3, 0]
    assert store.unreadable == {"bad.png": "broken"}


def test_read_keeps_the_order_and_repetitions(written):
    store, features, boxes = written
    read, places = store.read(np.array([7, 0, 7]))
    assert (read.dtype, places.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(read, features[[7, 0, 7]].astype(np.float16))
    np.testing.assert_array_equal(places, boxes[[7, 0, 7]])
    assert store.read(np.array([], dtype=np.int64))[0].shape == (0, REGIONS, DIM)


@pytest.mark.parametrize("row", [-1, 12])
def test_a_row_that_is_not_there(written, row):
    with pytest.raises(IndexError):
        written[0].read(np.array([0, row]))


def test_a_store_without_images(tmp_path):
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    writer.finish({})
    store = FeatureStore.open(tmp_path / "store")
    assert store.features.shape == (0, REGIONS, DIM)
    assert store.rows(["a.png"]).tolist() == [-1]


def test_an_image_is_added_once(tmp_path):
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    writer.add(["a", "b"], *arrays(2))
    with pytest.raises(ValueError, match="twice"):
        writer.add(["b"], *arrays(1))
    with pytest.raises(ValueError, match="twice"):
        writer.add(["c", "c"], *arrays(2))


def test_what_float16_cannot_hold_is_an_error(tmp_path):
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    features, boxes = arrays(1)
    features[0, 0, 0] = 70000
    with pytest.raises(ValueError, match="float16"):
        writer.add(["a"], features, boxes)


def test_an_unfinished_store_does_not_open(tmp_path):
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    writer.add(["a", "b"], *arrays(2))
    with pytest.raises(InputError, match=r"store\.json: no such file"):
        FeatureStore.open(tmp_path / "store")


def test_a_damaged_store_is_one_clear_line(tmp_path, written):
    path = tmp_path / "store" / "features.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="extract again"):
        FeatureStore.open(tmp_path / "store")
