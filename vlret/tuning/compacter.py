"""Adapters with parameter-efficient projections: hyper-complex (Compacter) and low-rank."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from vlret.files import InputError
from vlret.settings import Compacter, LowRankAdapter
from vlret.tuning.adapters import add_adapters

# The initial standard deviation of rules (VL-Adapter's phm_init_range).
RULE_STD = 0.01


def glorot(*size: int) -> nn.Parameter:
    """Matrices `[..., inner, outer]`, each Glorot-uniform with ReLU's gain."""
    limit = math.sqrt(2) * math.sqrt(6 / (size[-2] + size[-1]))
    return nn.Parameter(torch.empty(size).uniform_(-limit, limit))


def new_rule(division: int) -> nn.Parameter:
    """The rules of `division` Kronecker products, `[division, division, division]`."""
    return nn.Parameter(RULE_STD * torch.randn(division, division, division))


class HyperComplexLinear(nn.Module):
    """`x H + b`, where H sums `division` Kronecker products of small rules with larger matrices.

    Parameters
    ----------
    inner, outer
        The input and output widths, multiples of `division`.
    rank
        The rank of the larger matrices, each a product of two; None for full matrices.
    owner
        The module with a shared `phm_rule`; None to own a rule.

    Source: Zhang et al. 2021, "Beyond Fully-Connected Layers with Quaternions", section 3; Mahabadi et al. 2021,
    "Compacter", section 3; github.com/ylsung/VL_adapter, `PHMLinear`.
    """

    def __init__(self, inner: int, outer: int, division: int, rank: int | None, owner: nn.Module | None):
        super().__init__()
        if inner % division or outer % division:
            raise InputError(f"tuning.compacter.division: {division} does not divide {inner} and {outer}")
        self.phm_rule = new_rule(division) if owner is None else None
        self.owner = (owner,)  # in a tuple, so that it is not registered as a submodule
        inner, outer, width = inner // division, outer // division, outer
        self.W = glorot(division, inner, outer) if rank is None else None
        self.W_left = None if rank is None else glorot(division, inner, rank)
        self.W_right = None if rank is None else glorot(division, rank, outer)
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., inner]` to `[..., outer]`."""
        rule = self.owner[0].phm_rule if self.phm_rule is None else self.phm_rule
        matrices = self.W_left @ self.W_right if self.W is None else self.W
        whole = torch.einsum("nab,nio->aibo", rule, matrices).flatten(2).flatten(0, 1)
        return hidden @ whole + self.b


class LowRankLinear(nn.Module):
    """`x L R + b`, with L `[inner, rank]` and R `[rank, outer]`.

    Source: Mahabadi et al. 2021, "Compacter", section 3.2; github.com/ylsung/VL_adapter, `LowRankLinear`.
    """

    def __init__(self, inner: int, outer: int, rank: int):
        super().__init__()
        self.W_left, self.W_right = glorot(inner, rank), glorot(rank, outer)
        self.b = nn.Parameter(torch.zeros(outer))

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., inner]` to `[..., outer]`."""
        return hidden @ (self.W_left @ self.W_right) + self.b


def add_compacters(encoder: nn.Module, settings: Compacter, tasks: list[str]) -> None:
    """Put an adapter of hyper-complex projections after every sublayer; with `rule: shared`, all share one rule."""
    shared = settings.rule == "shared"
    if shared:
        encoder.phm_rule = new_rule(settings.division)
    sizes = {"division": settings.division, "rank": settings.rank}
    add_adapters(encoder, settings, tasks, partial(HyperComplexLinear, **sizes, owner=encoder if shared else None))


def add_low_rank_adapters(encoder: nn.Module, settings: LowRankAdapter, tasks: list[str]) -> None:
    """Put an adapter of low-rank projections after every sublayer."""
    add_adapters(encoder, settings, tasks, partial(LowRankLinear, rank=settings.rank))
