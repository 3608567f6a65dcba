"""Bottleneck adapters (Houlsby et al. 2019), placed as VL-Adapter places them."""

from torch import Tensor, nn
from torch.nn import functional as F


class Adapter(nn.Module):
    """`x + up(gelu(down(x)))` with GELU's tanh approximation and a bottleneck of `dim // reduction_factor`.

    Source: Sung et al. 2022, "VL-Adapter", section 3.2; github.com/ylsung/VL_adapter, `Adapter` (PyTorch's default
    initialisation).
    """

    def __init__(self, dim: int, reduction_factor: int):
        super().__init__()
        self.down_sampler = nn.Linear(dim, dim // reduction_factor)
        self.up_sampler = nn.Linear(dim // reduction_factor, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., dim]` to `[..., dim]`."""
        return hidden + self.up_sampler(F.gelu(self.down_sampler(hidden), approximate="tanh"))
