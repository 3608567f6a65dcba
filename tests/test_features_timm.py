"""timm models: their preprocessing and forward, for every kind of grid."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config

from vlret.features.timm_model import Timm
from vlret.files import InputError

CONFIG = {"input_size": [3, 64, 64], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"}


def published(folder, architecture, **changed):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    size = {"img_size": 64} if "vit" in architecture else {}
    model = timm.create_model(architecture, num_classes=5, **size).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {**CONFIG, "crop_pct": 0.8, "crop_mode": "center", **changed}
    description = {"architecture": architecture, "num_classes": 5, "model_args": size, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(description))
    return model, create_transform(**resolve_data_config(config), is_training=False)


def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["center", "squash"])
@torch.inference_mode()
def test_the_pooled_vector_is_the_classifiers_input(tmp_path, mode):
    oracle, transform = published(tmp_path / "timm", "resnet18", crop_mode=mode)
    model = Timm(tmp_path / "timm", "pooled")
    features, boxes, counts = model.describe([model.prepare(photo())])
    expected = oracle.forward_head(oracle.forward_features(transform(photo())[None]), pre_logits=True)
    torch.testing.assert_close(torch.from_numpy(features[:, 0]), expected, atol=1e-4, rtol=1e-3)
    assert counts.tolist() == [1]
    assert boxes.min() > 0.05
    assert boxes.max() < 0.95


@pytest.mark.parametrize(
    ("architecture", "grid", "dim"), [("resnet18", (2, 2), 512), ("vit_tiny_patch16_224", (4, 4), 192)]
)
@torch.inference_mode()
def test_the_grid_is_the_last_map_or_the_patches(tmp_path, architecture, grid, dim):
    oracle, transform = published(tmp_path / "timm", architecture)
    model = Timm(tmp_path / "timm", "grid")
    assert (model.grid, model.dim) == (grid, dim)
    features, _, _ = model.describe([model.prepare(photo())])
    last = oracle.forward_features(transform(photo())[None])
    expected = last.flatten(2).transpose(1, 2) if last.ndim == 4 else last[:, 1:]
    torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-4, rtol=1e-3)


def test_a_folder_without_a_timm_model_is_rejected(tmp_path):
    published(tmp_path / "timm", "resnet18")
    path = tmp_path / "timm/config.json"
    stored = json.loads(path.read_text())
    for change, message in [
        ({"architecture": "resnet1800"}, r"config\.json: not a timm model config"),
        ({"pretrained_cfg": {}}, r"config\.json: not a timm model config \('input_size'\)"),
        ({"architecture": "resnet34"}, r"model\.safetensors: \d+ missing parameters"),
    ]:
        path.write_text(json.dumps({**stored, **change}))
        with pytest.raises(InputError, match=message):
            Timm(tmp_path / "timm", "grid")


def test_ones_own_model_is_a_folder_as_timm_saves_it(tmp_path):
    model = timm.create_model("resnet18", num_classes=5)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    for place in (tmp_path, tmp_path / "weights.pt"):
        with pytest.raises(InputError, match=r"write one with `timm\.models\.save_for_hf\(model, folder\)`"):
            Timm(place, "pooled")
    timm.models.save_for_hf(model, tmp_path / "folder")
    assert Timm(tmp_path / "folder", "pooled").dim == 512
