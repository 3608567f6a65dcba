"""Every image of a table once, the same bytes each time, and nothing that looks finished after a kill."""

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Value
from PIL import Image
from random_effnet import random_effnet

from vlret.features.effnet import EffNet
from vlret.features.extract import extract, image_names
from vlret.features.store import FeatureStore
from vlret.files import InputError, read_json, sha256

SETTINGS = {"batch_size": 4, "workers": 2, "threads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract")
    torch.save(random_effnet().state_dict(), folder / "weights.pth")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / f"images/{number}.png")
    (folder / "images/cut.png").write_bytes((folder / "images/0.png").read_bytes()[:1000])
    return folder


@pytest.fixture
def run(folder, tmp_path):
    def run(names, unreadable="error", settings=SETTINGS, out="store", **columns):
        table = Dataset.from_dict({"image": names}) if isinstance(names, list) else names
        table.save_to_disk(str(tmp_path / "table"))
        where = {"images": folder / "images", "dataset": tmp_path / "table", "out": tmp_path / out}
        extract("effnet", folder / "weights.pth", unreadable=unreadable, settings=settings, **where)
        return FeatureStore.open(tmp_path / out)

    return run


def tree(folder):
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


def test_each_image_once_in_order_of_name(run, folder):
    store = run(["3.png", "1.png", None, "3.png", "9.png", "1.png", "0.png", "2.png"])
    assert store.names == ["0.png", "1.png", "2.png", "3.png", "9.png"]
    backbone = EffNet(folder / "weights.pth")
    pixels = backbone.preprocess(Image.open(folder / "images/9.png"))
    features, boxes = store.read(store.rows(["9.png"]))
    expected, expected_boxes = backbone.describe([pixels])
    np.testing.assert_allclose(features, expected, atol=5e-3)
    np.testing.assert_allclose(boxes, expected_boxes)
    assert np.abs(features - store.read(store.rows(["3.png"]))[0]).max() > 0.05


def test_all_splits_of_a_table_are_described(run, folder):
    splits = {"train": ["1.png", "0.png"], "validation": ["1.png"], "test": ["7.png"]}
    table = DatasetDict({split: Dataset.from_dict({"image": names}) for split, names in splits.items()})
    store = run(table)
    assert store.names == ["0.png", "1.png", "7.png"]
    assert store.description["backbone"] == "effnet"
    assert store.description["weights_sha256"] == sha256(folder / "weights.pth")
    assert store.description["versions"]["torch"] == version("torch")


def test_the_same_bytes_whatever_the_number_of_workers(run, tmp_path):
    names = [f"{number}.png" for number in range(10)]
    first = run(names) and tree(tmp_path / "store")
    again = run(names[::-1], out="again") and tree(tmp_path / "again")
    alone = run(names, out="alone", settings={**SETTINGS, "workers": 0}) and tree(tmp_path / "alone")
    assert first == again == alone


def test_an_unreadable_image_is_recorded_with_its_reason_and_without_a_path(run, tmp_path):
    store = run(["0.png", "cut.png", "gone.png", "../table/state.json"], unreadable="record")
    assert store.names == ["0.png"]
    assert store.unreadable.keys() == {"cut.png", "gone.png", "../table/state.json"}
    assert store.unreadable["gone.png"] == "no such file"
    assert "truncated" in store.unreadable["cut.png"]
    assert str(tmp_path) not in (tmp_path / "store/store.json").read_text()


@pytest.mark.parametrize("name", ["cut.png", "gone.png"])
def test_an_unreadable_image_of_a_question_is_an_error_that_names_it(run, tmp_path, name):
    with pytest.raises(InputError, match=rf"images/{name}: .*column image of .*table") as caught:
        run(["0.png", name])
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table"]


def test_a_table_without_any_image(run):
    assert len(run(Dataset.from_dict({"image": [None, None]}).cast_column("image", Value("string")))) == 0


def test_mistakes_in_the_call(run, folder, tmp_path):
    with pytest.raises(InputError, match="no column image"):
        run(Dataset.from_dict({"picture": ["0.png"]}))
    with pytest.raises(InputError, match="no saved table"):
        image_names(tmp_path / "nowhere")
    with pytest.raises(InputError, match="'resnet' is unknown: use one of effnet"):
        extract("resnet", folder, folder, folder, "error", SETTINGS, tmp_path / "out")


def test_a_killed_extraction_leaves_nothing_that_looks_finished(run, folder, tmp_path):
    Dataset.from_dict({"image": [f"{number}.png" for number in range(10)]}).save_to_disk(str(tmp_path / "table"))
    program = f"""
import time
from pathlib import Path
from vlret.features import extract, effnet
describe = effnet.EffNet.describe
effnet.EffNet.describe = lambda *arguments: (describe(*arguments), time.sleep(60))[0]
extract.extract("effnet", Path({str(folder / "weights.pth")!r}), Path({str(folder / "images")!r}),
                Path({str(tmp_path / "table")!r}), "error", {SETTINGS!r}, Path({str(tmp_path / "store")!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    while not (begun := list(tmp_path.glob(".store*/features.npy"))) and process.poll() is None:
        time.sleep(0.05)
    assert begun
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "store").exists()
    with pytest.raises(InputError):
        FeatureStore.open(tmp_path / "store")
    assert len(run([f"{number}.png" for number in range(10)])) == 10
    assert not list(tmp_path.glob(".store*"))
    assert read_json(tmp_path / "store/store.json")["dtype"] == "float16"
