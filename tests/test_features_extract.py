"""Extraction: every image of a table once, reproducibly, and resumably after a kill."""

import json
import os
import re
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
from vlret.features.extract import extract, image_names, select_shard
from vlret.features.store import FeatureStore, gather
from vlret.files import InputError, sha256
from vlret.settings import FeatureSettings

ENTRY = {"family": "effnet", "dim": 1280, "weights": {"path": "weights.pth"}}


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
    def run(names, unreadable=0, out="store", shard="1-of-1", workers=2, batch_size=4, threads=2, **settings):
        table = Dataset.from_dict({"image": names}) if isinstance(names, list) else names
        table.save_to_disk(str(tmp_path / "table"))
        where = {"images": folder / "images", "dataset": tmp_path / "table", "out": tmp_path / out}
        size = {"batch_size": batch_size, "threads": threads, "workers": workers}
        chosen = FeatureSettings.model_validate({"backbone": ENTRY, **settings})
        extract("effnet", folder / "weights.pth", unreadable=unreadable, shard=shard, settings=chosen, **size, **where)
        return FeatureStore.open(tmp_path / out)

    return run


def tree(folder):
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


def test_each_image_once_in_order_of_name(run, folder):
    store = run(["3.png", "1.png", None, "3.png", "9.png", "1.png", "0.png", "2.png"])
    assert store.names == ["0.png", "1.png", "2.png", "3.png", "9.png"]
    backbone = EffNet(folder / "weights.pth")
    pixels = backbone.prepare(Image.open(folder / "images/9.png"))
    features, boxes = store.read(store.rows(["9.png"]))
    expected, expected_boxes, _ = backbone.describe([pixels])
    np.testing.assert_allclose(features, expected, atol=5e-3)
    np.testing.assert_allclose(boxes, expected_boxes)
    assert np.abs(features - store.read(store.rows(["3.png"]))[0]).max() > 0.05


def test_all_splits_of_a_table_are_extracted(run, folder):
    splits = {"train": ["1.png", "0.png"], "validation": ["1.png"], "test": ["7.png"]}
    table = DatasetDict({split: Dataset.from_dict({"image": names}) for split, names in splits.items()})
    store = run(table)
    assert store.names == ["0.png", "1.png", "7.png"]
    assert store.description["backbone"] == "effnet"
    assert store.description["weights_sha256"] == sha256(folder / "weights.pth")
    assert store.description["versions"]["torch"] == version("torch")


def test_the_number_of_workers_does_not_change_the_bytes(run, tmp_path):
    names = [f"{number}.png" for number in range(10)]
    first = run(names) and tree(tmp_path / "store")
    again = run(names[::-1], out="again", workers=1) and tree(tmp_path / "again")
    assert first == again
    assert first.keys() == {"features.npy", "boxes.npy", "counts.npy", "store.json"}
    described = json.loads((tmp_path / "store/store.json").read_text())
    assert described["entry"] == {"family": "effnet", "dim": 1280}
    assert not described.keys() & {"threads", "batch_size"}


def test_several_images_of_a_row_and_single_precision(run):
    store = run([["3.png", "1.png"], [], None, ["1.png", "0.png"]], dtype="float32")
    assert store.names == ["0.png", "1.png", "3.png"]
    features, _ = store.read(np.arange(3))
    assert features.dtype == np.float32
    half, _ = run(["0.png", "1.png", "3.png"], out="half").read(np.arange(3))
    np.testing.assert_array_equal(features.astype(np.float16), half)
    assert store.rows([["gone.png", "3.png"]]).tolist() == [2]


def test_shards_gather_to_the_whole(run, tmp_path):
    names = ["cut.png", *(f"{number}.png" for number in range(10))]
    whole = run(names, unreadable=3, batch_size=1)
    for number in (1, 2, 3):
        run(names, unreadable=3, batch_size=1, out=f"{number}-of-3", shard=f"{number}-of-3")
    gather([tmp_path / f"{number}-of-3" for number in (1, 2, 3)], 1, tmp_path / "gathered")
    gathered = FeatureStore.open(tmp_path / "gathered")
    assert (gathered.names, gathered.unreadable) == (whole.names, whole.unreadable)
    assert gathered.description == whole.description
    for one, other in zip(gathered.read(np.arange(10)), whole.read(np.arange(10)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_every_name_is_in_one_shard(of):
    names = [str(number) for number in range(5)]
    shares = [select_shard(names, f"{number}-of-{of}") for number in range(1, of + 1)]
    assert [name for part in shares for name in part] == names
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for wrong in (f"{of + 1}-of-{of}", "0-of-2", "2", "a-of-b"):
        with pytest.raises(InputError, match="expected the form 2-of-4"):
            select_shard(names, wrong)


def test_an_unreadable_image_is_recorded_with_its_reason_and_without_a_path(run, tmp_path):
    store = run(["0.png", "cut.png", "gone.png", "../table/state.json"], unreadable=3)
    assert store.names == ["0.png"]
    assert store.unreadable.keys() == {"cut.png", "gone.png", "../table/state.json"}
    assert store.unreadable["gone.png"] == "no such file"
    assert "truncated" in store.unreadable["cut.png"]
    assert str(tmp_path) not in (tmp_path / "store/store.json").read_text()


@pytest.mark.parametrize("name", ["cut.png", "gone.png"])
def test_an_unreadable_image_of_a_question_is_a_named_error(run, tmp_path, name):
    with pytest.raises(InputError, match=rf"images/{name}: .*column image of .*table") as caught:
        run(["0.png", name])
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.unfinished", "table"]


def test_too_many_unreadable_images_are_an_error_per_shard_and_in_total(run, tmp_path):
    names = ["0-gone.png", "1.png", "2.png", "cut.png"]
    message = r"images/cut\.png: .*truncated.* \(column .*, and 1 others cannot be read either; .* raise limits"
    with pytest.raises(InputError, match=message):
        run(names, unreadable=1, batch_size=2)
    for number in (1, 2):
        run(names, unreadable=1, out=f"{number}", shard=f"{number}-of-2")
    shards = [tmp_path / "1", tmp_path / "2"]
    with pytest.raises(
        InputError, match=r"2 images cannot be read \(such as 0-gone\.png: no such file\), 1 are allowed; fix"
    ):
        gather(shards, 1, tmp_path / "gathered")
    assert not (tmp_path / "gathered").exists()
    gather(shards, 2, tmp_path / "gathered")


def test_a_folder_without_any_of_the_images_is_rejected(run):
    with pytest.raises(InputError, match=r"images: has none of the 2 images in column image of .*table"):
        run(["gone.png", "../table/state.json"], unreadable=9)


def test_an_image_error_is_not_remembered(run, folder):
    late = folder / "images/late.png"
    with pytest.raises(InputError, match=r"late\.png: no such file"):
        run(["0.png", "1.png", "2.png", "3.png", "late.png"])
    late.write_bytes((folder / "images/0.png").read_bytes())
    store = run(["0.png", "1.png", "2.png", "3.png", "late.png"])
    late.unlink()
    assert store.names[-1] == "late.png"
    assert not store.unreadable


def test_a_table_without_any_image(run):
    assert len(run(Dataset.from_dict({"image": [None, None]}).cast_column("image", Value("string")))) == 0


def test_mistakes_in_the_call(run, folder, tmp_path):
    with pytest.raises(InputError, match="no column image"):
        run(Dataset.from_dict({"picture": ["0.png"]}))
    with pytest.raises(InputError, match="no saved table"):
        image_names(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"backbones\.effnet\.dim: 1281, but the weights have 1280"):
        run(["0.png"], backbone={**ENTRY, "dim": 1281})


KILLED = """
import sys, time
from pathlib import Path
from vlret.features import effnet
from vlret.features.extract import extract
from vlret.settings import FeatureSettings

describe, calls = effnet.EffNet.describe, []
def slow(*arguments):
    calls.append(1)
    return describe(*arguments) if len(calls) < 3 else time.sleep(600)
effnet.EffNet.describe = slow

if __name__ == "__main__":
    here, images = Path(sys.argv[1]), Path(sys.argv[2])
    settings = FeatureSettings.model_validate({"backbone": %r})
    where, size = (images, here / "table", "1-of-1", 0), (4, 2)
    extract("effnet", images.parent / "weights.pth", *where, settings, *size, here / "store")
"""


def test_a_killed_extraction_resumes(run, folder, tmp_path, capsys):
    names = [f"{number}.png" for number in range(10)]
    whole = run(names, out="undisturbed") and tree(tmp_path / "undisturbed")
    (tmp_path / "killed.py").write_text(KILLED % ENTRY)
    command = [sys.executable, str(tmp_path / "killed.py"), str(tmp_path), str(folder / "images")]
    process = subprocess.Popen(command, start_new_session=True)
    journal = tmp_path / "store.unfinished/store/journal.jsonl"
    while process.poll() is None and not (journal.is_file() and len(journal.read_text().splitlines()) == 2):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(InputError):
        FeatureStore.open(tmp_path / "store")
    capsys.readouterr()
    assert len(run(names)) == 10
    assert "resuming after 8 of 10 images" in capsys.readouterr().err
    assert tree(tmp_path / "store") == whole
    assert not (tmp_path / "store.unfinished").exists()


def test_a_finished_store_that_was_not_yet_renamed_is_not_redone(run, tmp_path, monkeypatch, capsys):
    names = [f"{number}.png" for number in range(5)]
    run(names, out="undisturbed")
    replace = os.replace

    def stop(source, target):
        if str(target) == str(tmp_path / "store"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        run(names)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(EffNet, "describe", None)
    run(names)
    assert tree(tmp_path / "store") == tree(tmp_path / "undisturbed")


def test_extraction_does_not_resume_from_other_settings(run, tmp_path, capsys):
    with pytest.raises(InputError, match=r"gone\.png"):
        run(["0.png", "1.png", "2.png", "3.png", "gone.png"])
    assert (tmp_path / "store.unfinished/store/journal.jsonl").read_text().count("\n") == 1
    run(["0.png", "1.png", "2.png", "4.png", "5.png"])
    log = capsys.readouterr().err
    assert "already" not in log
    assert "store.unfinished: removed, since it was made with other settings" in log


def test_the_progress_bar_shows_speed_and_time_left(folder, tmp_path):
    Dataset.from_dict({"image": [f"{number}.png" for number in range(10)]}).save_to_disk(str(tmp_path / "table"))
    settings = json.dumps({"backbone": ENTRY})
    options = f"--images {folder / 'images'} --dataset {tmp_path / 'table'} --out {tmp_path / 'store'} --workers 1"
    command = f"vlret features extract --backbone effnet --weights {folder / 'weights.pth'} {options} --shard 1-of-1"
    command = [*command.split(), *["--unreadable", "0", "--batch-size", "4", "--threads", "1"], "--settings", settings]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"effnet: 100%.*10/10 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ images/s\]", done.stderr)
    assert re.search(r"effnet features of 10 images, 0 unreadable: [\d.]+ images/s", done.stderr)
