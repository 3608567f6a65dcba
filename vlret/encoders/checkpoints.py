"""Pretrained weights by their published names, and checkpoints of our own."""

import json
from dataclasses import fields
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlret.encoders.bert import Bert, BertConfig
from vlret.files import InputError, read_json, whole, write_json


def load_bert(folder: Path) -> Bert:
    """Read a BERT from a folder in Hugging Face's layout: `config.json` and `model.safetensors`.

    The pooler and the stored position ids, which no encoder here uses, may be there; any other missing or unexpected
    key is an `InputError`.
    """
    stored = read_json(Path(folder) / "config.json")
    known = {field.name for field in fields(BertConfig)}
    encoder = Bert(BertConfig(**{key: value for key, value in stored.items() if key in known}))
    if stored.get("model_type") != "bert" or stored.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"{folder}/config.json: model_type: expected a bert with absolute positions")
    path = Path(folder) / "model.safetensors"
    weights = load_file(path)
    weights = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
    unused = {name for name in weights if name.startswith(("pooler.", "cls.")) or name == "embeddings.position_ids"}
    load_strictly(
        encoder, {name: weights[name] for name in weights.keys() - unused}, Path(folder) / "model.safetensors"
    )
    return encoder


def load_strictly(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load every parameter of a module; a missing, unexpected or misshapen one is an `InputError` that names it."""
    expected = module.state_dict()
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    misshapen = [n for n in sorted(expected.keys() & weights.keys()) if expected[n].shape != weights[n].shape]
    for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)):
        if names:
            raise InputError(f"{path}: {len(names)} {kind} parameters, the first {names[0]}")
    module.load_state_dict(weights)


def save_checkpoint(path: Path, weights: dict[str, Tensor], settings: dict) -> None:
    """Write the folder `path`: `model.safetensors` and the settings of the experiment in `config.json`."""
    with whole(path) as aside:
        aside.mkdir()
        tensors = {name: weights[name].detach().cpu().contiguous() for name in sorted(weights)}
        save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
        write_json(aside / "config.json", settings)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The weights and the settings that `save_checkpoint` wrote."""
    file = Path(path) / "model.safetensors"
    if not file.is_file():
        raise InputError(f"{file}: no such file; was the experiment trained?")
    try:
        with safe_open(file, framework="pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    except Exception as error:
        raise InputError(f"{file}: not a whole safetensors file: {error}") from error
    return weights, json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
