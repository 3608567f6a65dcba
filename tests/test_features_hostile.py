"""Broken, odd and hostile files: no crash, no hang, one entry per file."""

import numpy as np
import pytest
from datasets import Dataset
from hostile_images import files, sound, traps
from test_features_timm import published

from vlret.features.extract import extract
from vlret.features.store import FeatureStore
from vlret.settings import FeatureSettings


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_file_has_an_entry(tmp_path, count):
    names = files(tmp_path / "images", count)
    Dataset.from_dict({"image": names}).save_to_disk(str(tmp_path / "table"))
    published(tmp_path / "timm", "test_resnet", input_size=[3, 32, 32])
    backbone = {"family": "timm", "output": "pooled", "dim": 96, "weights": {"path": "timm"}}
    settings = FeatureSettings.model_validate({"backbone": backbone})
    where = {"images": tmp_path / "images", "dataset": tmp_path / "table", "out": tmp_path / "store"}
    how = {"unreadable": 10**9, "shard": "1-of-1", "settings": settings}
    extract("timm", tmp_path / "timm", **where, **how, batch_size=32, threads=1, workers=2)
    store = FeatureStore.open(tmp_path / "store")
    assert sorted([*store.names, *store.unreadable]) == names
    intact = names[: len(sound(0))]
    assert set(intact) <= set(store.names)
    harmful = names[len(intact) :][: len(traps())]
    assert len(set(harmful) & store.unreadable.keys()) > 0.6 * len(harmful)
    assert 0.2 < len(store) / count < 0.8
    for reason in store.unreadable.values():
        assert reason
        assert "\n" not in reason
        assert "/" not in reason.replace("KiB/s", "")
        assert len(reason) < 300
    assert np.isfinite(store.read(np.arange(len(store)))[0]).all()
