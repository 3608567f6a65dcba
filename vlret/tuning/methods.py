"""Tuning methods by name: what each adds to an encoder, and which of the encoder's parameters it trains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vlret.encoders.assemble import assemble
from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.joint import AdapterSlot
from vlret.tuning.adapters import Adapter
from vlret.tuning.prompts import Prompt


@dataclass(frozen=True)
class Method:
    """`add` changes an encoder in place; `trained` tells from a parameter's name whether it is trained."""

    add: Callable[[nn.Module, dict], None]
    trained: Callable[[str], bool]


def add_nothing(encoder: nn.Module, settings: dict) -> None:
    """Leave the encoder as it is."""


def add_prompt(encoder: nn.Module, settings: dict) -> None:
    """Put `settings["tokens"]` prompts before the text."""
    encoder.encoder.prompt = Prompt(settings["tokens"], settings["hidden"], encoder.dim)


def add_adapters(encoder: nn.Module, settings: dict) -> None:
    """Put an adapter after every sublayer: two a layer."""
    for module in list(encoder.modules()):
        for name, slot in list(module.named_children()):
            if isinstance(slot, AdapterSlot):
                setattr(module, name, Adapter(slot.dim, settings["reduction_factor"]))


def _naming(*parts: str) -> Callable[[str], bool]:
    return lambda name: any(part in name for part in parts)


# VL-Adapter trains the visual embedding with every method, since no pretrained weights hold it.
METHODS = {
    "zs": Method(add_nothing, lambda name: False),
    "visual": Method(add_nothing, _naming("visual_embedding.")),
    "prompt": Method(add_prompt, _naming("visual_embedding.", "prompt.")),
    "adapter": Method(add_adapters, _naming("visual_embedding.", "adapter.")),
    "full": Method(add_nothing, lambda name: True),
}


def tune(model: BiEncoder, settings: dict) -> None:
    """Add what `settings["method"]` adds to each side, and let gradients reach exactly what it trains."""
    method = METHODS[settings["method"]]
    for tower in model.towers:
        method.add(tower.encoder, settings)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(method.trained(name))


def build(settings: dict, weights: Mapping[str, Path], feature_dim: int | None) -> BiEncoder:
    """The bi-encoder of an experiment before training: pretrained, with what its tuning method adds, seeded.

    Parameters are those of `vlret.encoders.assemble.assemble`.
    """
    torch.manual_seed(settings["seed"])
    model = assemble(settings, weights, feature_dim)
    tune(model, settings["tuning"])
    return model
