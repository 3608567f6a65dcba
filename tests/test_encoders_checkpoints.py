"""Weights files: what is read, what is rejected, and that no code in them runs."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_encoders import experiment

from vlret.encoders.checkpoints import load_strictly, read_checkpoint, read_tensors, save_checkpoint
from vlret.files import InputError


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_code_is_rejected_and_not_run(tmp_path):
    trap, path = tmp_path / "trapped", tmp_path / "weights.pth"
    torch.save({"weight": torch.ones(2), "trap": Trap(trap)}, path)
    with pytest.raises(InputError, match=r"weights\.pth: damaged, or not only tensors"):
        read_tensors(path)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_truncated_weights_are_rejected(tmp_path, name):
    path, weights = tmp_path / name, {"weight": torch.ones(100)}
    save_file(weights, path) if name.endswith("safetensors") else torch.save(weights, path)
    assert torch.equal(read_tensors(path)["weight"], weights["weight"])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=f"{name}: damaged, or not only tensors"):
        read_tensors(path)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("stored", "found"),
    [([torch.ones(1)], "a list"), ({"model": {"weight": torch.ones(1)}}, "a dict under 'model'"), ({}, None)],
)
def test_a_file_without_named_tensors_is_rejected(tmp_path, stored, found):
    torch.save(stored, tmp_path / "weights.pth")
    if found is None:
        assert read_tensors(tmp_path / "weights.pth") == {}
    else:
        with pytest.raises(InputError, match=f"expected tensors by name, found {found}"):
            read_tensors(tmp_path / "weights.pth")


def test_parameters_are_filled_in_place_from_any_dtype(tmp_path):
    layer = torch.nn.Linear(2, 3)
    weights = {name: torch.full_like(tensor, 0.5).half() for name, tensor in layer.state_dict().items()}
    load_strictly(layer.state_dict(), weights, tmp_path)
    assert layer.weight.dtype == torch.float32
    assert (layer.weight == 0.5).all()
    with pytest.raises(InputError, match=r"1 misshapen parameters, the first bias: \[2\], expected \[3\]"):
        load_strictly(layer.state_dict(), {**weights, "bias": torch.ones(2)}, tmp_path)


TEXT = {"kind": "text", "text": {"architecture": "bert", "separator": "."}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 2}, "unknown key 'threads'"),
        ({"tuning": {"method": "lora", "rank": 0}}, "tuning.rank: 0 is less than"),
    ],
)
def test_invalid_checkpoint_settings_are_a_one_line_error(tmp_path, change, message):
    save_checkpoint(tmp_path / "made", {}, experiment(TEXT))
    path = tmp_path / "made" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=rf"made/config.json: {message}.*; remove .*made and train") as caught:
        read_checkpoint(tmp_path / "made")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_round_trips(tmp_path):
    weights = {"b": torch.rand(2, 3).T, "a": torch.rand(4).bfloat16()}
    training = {"steps": 3, "tasks": {"a": {"kind": "viquae", "batch_size": 4}}}
    chosen = experiment(TEXT, seed=3, training=training, tuning={"method": "lora", "rank": 2})
    save_checkpoint(tmp_path / "made", weights, chosen)
    read, settings = read_checkpoint(tmp_path / "made")
    assert settings == chosen
    stored = json.loads((tmp_path / "made" / "config.json").read_text())
    assert (stored["tuning"], stored["training"]) == ({"method": "lora", "rank": 2}, training), "no default"
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    with pytest.raises(InputError, match="was the experiment trained"):
        read_checkpoint(tmp_path)
