"""Feature stores round-trip by name, and incomplete ones do not open."""

import json
import os
import shutil

import numpy as np
import pytest

from vlret.features.store import FeatureStore, FeatureWriter, gather, is_whole
from vlret.files import InputError, read_json

REGIONS, DIM = 3, 5


def arrays(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((images, REGIONS, DIM)).astype(np.float32)
    return features, rng.random((images, REGIONS, 4), dtype=np.float32)


@pytest.fixture
def written(tmp_path):
    features, boxes = arrays(12)
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    writer.add([f"{row}.png" for row in range(9)], features[:9], boxes[:9], unreadable={"bad.png": "broken"})
    writer.add(["9.png", "10.png", "11.png"], features[9:], boxes[9:], np.array([3, 0, 2]))
    writer.finish({"backbone": "toy"})
    return FeatureStore.open(tmp_path / "store"), features, boxes


def whole(store):
    return store.read(np.arange(len(store)))


def test_round_trip_through_a_header_that_grew(written, tmp_path):
    store, features, boxes = written
    assert (len(store), store.regions, store.dim) == (12, REGIONS, DIM)
    read, places = whole(store)
    assert (read.dtype, places.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(read, features.astype(np.float16))
    np.testing.assert_array_equal(places, boxes)
    assert store.counts.tolist() == [3] * 9 + [3, 0, 2]
    assert store.description == {"backbone": "toy", "dtype": "float16"}
    assert store.names == [f"{row}.png" for row in range(12)]
    assert isinstance(np.load(tmp_path / "store/features.npy", mmap_mode="r"), np.memmap)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "boxes.npy",
        "counts.npy",
        "features.npy",
        "store.json",
    ]


def test_rows_by_name(written):
    store, _, _ = written
    assert store.row("10.png") == 10
    assert store.row("bad.png") is None
    assert store.row(None) is None
    rows = store.rows(["3.png", None, "bad.png", "3.png", ["bad.png", "0.png", "1.png"], []])
    assert rows.dtype == np.int64
    assert rows.tolist() == [3, -1, -1, 3, 0, -1]
    assert store.unreadable == {"bad.png": "broken"}


def test_read_keeps_the_order_and_repetitions(written):
    store, features, boxes = written
    read, places = store.read(np.array([7, 0, 7]))
    np.testing.assert_array_equal(read, features[[7, 0, 7]].astype(np.float16))
    np.testing.assert_array_equal(places, boxes[[7, 0, 7]])
    assert store.read(np.array([], dtype=np.int64))[0].shape == (0, REGIONS, DIM)


@pytest.mark.parametrize("row", [-1, 12])
def test_a_missing_row(written, row):
    with pytest.raises(IndexError):
        written[0].read(np.array([0, row]))


def test_a_store_without_images(tmp_path):
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    writer.add([], unreadable={"a.png": "broken"})
    writer.finish({})
    store = FeatureStore.open(tmp_path / "store")
    assert whole(store)[0].shape == (0, REGIONS, DIM)
    assert store.rows(["a.png"]).tolist() == [-1]
    assert store.unreadable == {"a.png": "broken"}


def test_an_image_is_added_once(tmp_path):
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    writer.add(["a", "b"], *arrays(2))
    for names in (["b"], ["c", "c"]):
        with pytest.raises(ValueError, match="twice"):
            writer.add(names, *arrays(len(names)))


def test_float16_overflow_is_an_error_that_float32_avoids(tmp_path):
    features, boxes = arrays(2)
    features[1, 0, 0] = 70000
    with pytest.raises(InputError, match=r"features\.dtype: the features of b are not finite in float16; set float32"):
        FeatureWriter(tmp_path / "half", REGIONS, DIM).add(["a", "b"], features, boxes)
    writer = FeatureWriter(tmp_path / "single", REGIONS, DIM, "float32")
    writer.add(["a", "b"], features, boxes)
    writer.finish({})
    np.testing.assert_array_equal(whole(FeatureStore.open(tmp_path / "single"))[0], features)


def test_an_unfinished_store_does_not_open(tmp_path):
    writer = FeatureWriter(tmp_path / "store", REGIONS, DIM)
    writer.add(["a", "b"], *arrays(2))
    with pytest.raises(InputError, match=r"store\.json: no such file"):
        FeatureStore.open(tmp_path / "store")


@pytest.mark.parametrize("torn", [0, 40, 55])
def test_a_writer_resumes_after_the_last_complete_batch(written, tmp_path, torn):
    _, features, boxes = written
    names = [f"{row}.png" for row in range(12)]
    first = FeatureWriter(tmp_path / "again", REGIONS, DIM)
    first.add(names[:9], features[:9], boxes[:9], unreadable={"bad.png": "broken"})
    first.add(names[9:], features[9:], boxes[9:], np.array([3, 0, 2]))
    del first  # killed: never finished, and the journal's last line may be torn
    journal = tmp_path / "again/journal.jsonl"
    journal.write_bytes(journal.read_bytes()[: -torn or None])
    second = FeatureWriter(tmp_path / "again", REGIONS, DIM)
    assert second.batches == (1 if torn else 2)
    assert second.unreadable == {"bad.png": "broken"}
    if torn:
        second.add(names[9:], features[9:], boxes[9:], np.array([3, 0, 2]))
    second.finish({"backbone": "toy"})
    for path in (tmp_path / "store").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


SIZES = (3, 0, 4, 1, 2)  # images per batch; each also has an unreadable one


def resume(folder, features, boxes, snapshot=lambda: None):
    """Write the remaining batches, as an extraction does."""
    writer = FeatureWriter(folder, REGIONS, DIM)
    ends = np.cumsum([0, *SIZES])
    for number in range(writer.batches, len(SIZES)):
        rows = slice(ends[number], ends[number + 1])
        names = [f"é{row}.png" for row in range(*rows.indices(10))]
        given = (features[rows], boxes[rows], np.arange(10)[rows] % 4) if names else ()
        writer.add(names, *given, unreadable={f"bad{number}.png": "broken"})
        snapshot()
    writer.finish({"backbone": "toy"})
    snapshot()


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def lay(folder, contents):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def test_a_store_recovers_from_any_truncation(tmp_path):
    features, boxes = arrays(10)
    stages = []
    resume(tmp_path / "a", features, boxes, lambda: stages.append(files(tmp_path / "a")))
    *stages, expected = stages
    for stage in stages:
        for name, content in stage.items():
            for kept in {0, 1, len(content) // 3, len(content) // 2, len(content) - 1}:
                for end in (b"", bytes(len(content) - kept)) if name == "journal.jsonl" else (b"",):
                    lay(tmp_path / "b", {**stage, name: content[:kept] + end})
                    resume(tmp_path / "b", features, boxes)
                    assert files(tmp_path / "b") == expected, (name, kept)
            lay(tmp_path / "b", {other: stage[other] for other in stage if other != name})
            resume(tmp_path / "b", features, boxes)
            assert files(tmp_path / "b") == expected, name


def test_a_power_failure_leaves_no_hole(tmp_path, monkeypatch):
    """Only synced data is certain to survive; zeros may follow it."""
    features, boxes = arrays(10)
    synced, stages, fsync = {}, [], os.fsync

    def stop():
        now = files(tmp_path / "a")
        sizes = {path.name: synced.get(path.stat().st_ino, 0) for path in (tmp_path / "a").iterdir()}
        sure = {name: content[: sizes[name]] for name, content in now.items()}
        stages.append(sure)
        stages.append({name: content + bytes(len(now[name]) - len(content)) for name, content in sure.items()})

    def sync(descriptor):
        fsync(descriptor)
        stop()
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size
        stop()

    resume(tmp_path / "whole", features, boxes)
    monkeypatch.setattr(os, "fsync", sync)
    resume(tmp_path / "a", features, boxes, stop)
    monkeypatch.setattr(os, "fsync", fsync)
    assert len(stages) > 40
    for stage in stages:
        lay(tmp_path / "b", {name: content for name, content in stage.items() if not name.startswith(".")})
        if not is_whole(tmp_path / "b"):
            resume(tmp_path / "b", features, boxes)
        assert files(tmp_path / "b") == files(tmp_path / "whole")


def test_a_damaged_store_is_a_one_line_error(tmp_path, written):
    path = tmp_path / "store" / "features.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="extract again"):
        FeatureStore.open(tmp_path / "store")


def shards(folder, sizes, features, boxes):
    start = 0
    for number, size in enumerate(sizes, start=1):
        rows = slice(start, start + size)
        writer = FeatureWriter(folder / f"{number}-of-{len(sizes)}", REGIONS, DIM)
        writer.add([f"{row}.png" for row in range(12)][rows], features[rows], boxes[rows], np.arange(12)[rows] % 4)
        writer.add([], unreadable={f"bad{number}.png": "broken"})
        writer.finish({"backbone": "toy"})
        start += size
        yield folder / f"{number}-of-{len(sizes)}"


@pytest.mark.parametrize("sizes", [[12], [5, 7], [4, 0, 1, 7]])
def test_gathered_shards_are_one_store_of_linked_arrays(tmp_path, sizes):
    features, boxes = arrays(12)
    parts = list(shards(tmp_path, sizes, features, boxes))
    gather(parts, 9, tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    assert (len(store), store.regions, store.dim) == (12, REGIONS, DIM)
    assert store.names == [f"{row}.png" for row in range(12)]
    assert store.unreadable.keys() == {f"bad{number}.png" for number in range(1, len(sizes) + 1)}
    assert store.counts.tolist() == [row % 4 for row in range(12)]
    rows = np.array([11, 0, 5, 4, 11, 3])
    read, places = store.read(rows)
    np.testing.assert_array_equal(read, features[rows].astype(np.float16))
    np.testing.assert_array_equal(places, boxes[rows])
    with pytest.raises(IndexError):
        store.read(np.array([12]))
    linked = {path.stat().st_ino for path in (tmp_path / "store").rglob("features.npy")}
    assert linked == {(part / "features.npy").stat().st_ino for part in parts}


def test_mismatched_shards_are_rejected(tmp_path):
    features, boxes = arrays(12)
    first, second = shards(tmp_path, [6, 6], features, boxes)
    with pytest.raises(InputError, match=r"1-of-2: image 0\.png is also in another shard"):
        gather([first, first], 9, tmp_path / "store")
    other = {**read_json(second / "store.json"), "backbone": "another"}
    (second / "store.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"2-of-2: made with other settings than .*1-of-2; delete both"):
        gather([first, second], 9, tmp_path / "store")
    assert not (tmp_path / "store").exists()
