"""Weights files: read without unpickling, loaded strictly, written atomically."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlret.digests import content
from vlret.explained import explain
from vlret.files import InputError, atomic, error_summary, read_json, write_json
from vlret.settings import Checkpoint

# In order of preference.
FILES = ("model.safetensors", "pytorch_model.bin")


def weights_file(folder: Path, prefix: str = "") -> Path:
    """The weights file of a folder in Hugging Face's layout; `InputError` if there is none."""
    names = [prefix + name for name in FILES]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: no {' or '.join(names)} here")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a `.safetensors` or `torch.save` file, on the CPU.

    Raises
    ------
    InputError
        If the file is missing, damaged, or holds anything but named tensors (nothing is unpickled).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as stored:
                return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
        # Memory-mapping reads only the tensors that are used; files from before torch 1.6 do not support it.
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch does not document what a broken file raises
        raise InputError(f"{path}: damaged, or not only tensors: {error_summary(error)}") from error
    if not isinstance(stored, Mapping):
        raise InputError(f"{path}: expected tensors by name, found a {type(stored).__name__}")
    if wrong := [name for name in stored if not isinstance(name, str)]:
        raise InputError(f"{path}: expected tensors by name, found key {wrong[0]!r}, a {type(wrong[0]).__name__}")
    if wrong := [name for name, tensor in stored.items() if not isinstance(tensor, Tensor)]:
        raise InputError(
            f"{path}: expected tensors by name, found a {type(stored[wrong[0]]).__name__} under {wrong[0]!r}"
        )
    return dict(stored)


def load_strictly(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill all `parameters` in place; `InputError` names the first missing, unexpected or misshapen one."""
    missing, unexpected = sorted(parameters.keys() - weights.keys()), sorted(weights.keys() - parameters.keys())
    both = sorted(parameters.keys() & weights.keys())
    misshapen = [name for name in both if parameters[name].shape != weights[name].shape]
    for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)):
        if names:
            shapes = ""
            if kind == "misshapen":
                shapes = f": {list(weights[names[0]].shape)}, expected {list(parameters[names[0]].shape)}"
            raise InputError(f"{path}: {len(names)} {kind} parameters, the first {names[0]}{shapes}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def save_checkpoint(
    path: Path, weights: Mapping[str, Tensor], settings: Checkpoint, ready: Callable[[], None] | None = None
) -> None:
    """Write the folder `path`: `model.safetensors`, and the experiment's settings in `config.json`.

    `ready` is called before the folder is renamed into place, as by `vlret.files.atomic`.
    """
    with atomic(path, ready, kept=True) as aside:
        aside.mkdir()
        tensors = {name: weights[name].detach().cpu().contiguous() for name in sorted(weights)}
        save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
        write_json(aside / "config.json", settings.brief())


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Checkpoint]:
    """The weights and the settings that `save_checkpoint` wrote."""
    file = Path(path) / "model.safetensors"
    if not file.is_file():
        raise InputError(f"{file}: no such file; was the experiment trained?")
    return read_tensors(file), read_settings(path)


def check_base(path: Path, settings: Checkpoint, weights: Mapping[str, Path]) -> None:
    """Check that `weights` are, by content, those that the checkpoint at `path` was trained from, as far as it says.

    Raises
    ------
    InputError
        If one differs.
    """
    for name, known in settings.weights.items():
        if name in weights and (found := content(Path(weights[name]))) != known:
            raise InputError(
                f"{path}: trained from other weights than {weights[name]} (their digest is {found}, that of {name!r} "
                f"was {known}); give those it was trained from, or train the experiment again"
            )


def read_settings(path: Path) -> Checkpoint:
    """The settings in a checkpoint's `config.json`; `InputError` names the first invalid field."""
    file = Path(path) / "config.json"
    stored = read_json(file)
    try:
        return Checkpoint.model_validate(stored)
    except ValidationError as error:
        message = explain(error, stored, Checkpoint)
        raise InputError(f"{file}: {message}; remove {path} and train the experiment again") from error
