"""The arithmetic of encoders: which precision a machine computes natively, and how a model computes in it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from vlret.files import InputError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def chosen(precision: str, device: torch.device, field: str) -> str:
    """A precision for a device: `auto` is bf16 where it is native, else fp32.

    Raises `InputError`, which begins with the config's `field`, for fp16 without a GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise InputError(f"{field}: fp16 needs a GPU; use bf16 or fp32")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if multiplies_bfloat16() else "fp32"


def multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions, without which bfloat16 is slower than float32.

    torch has no public API for this.
    """
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context of a forward pass in fp32, bf16 or fp16."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, AUTOCAST[precision])


@torch.no_grad()
def round_linear(model: nn.Module, precision: str, rounded: Callable[[str], bool]) -> None:
    """Round the linear maps' parameters, those of `rounded` names, to bf16 if that is the precision.

    Autocast would round them again for each product, since it caches only those that are trained. fp16 is left to it:
    not every product may be computed so (`vlret.encoders.t5`).
    """
    if precision != "bf16":
        return
    for place, module in model.named_modules():
        if type(module) is nn.Linear:
            for name, parameter in module.named_parameters(recurse=False):
                if rounded(f"{place}.{name}"):
                    parameter.data = parameter.data.bfloat16()
