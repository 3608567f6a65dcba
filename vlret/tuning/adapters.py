"""Bottleneck adapters (Houlsby et al. 2019), placed as in VL-Adapter, shared by tasks or per task."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.joint import AdapterSlot, initialise
from vlret.encoders.tasks import PerTask
from vlret.files import InputError
from vlret.settings import Adapter as AdapterSettings

WAYS = ("down", "up")
Linear = Callable[[int, int], nn.Module]


class Bottleneck(nn.Module):
    """The down- and up-projection of an adapter of width `dim // reduction_factor`.

    Parameters
    ----------
    linear
        Builds a projection from its two widths.
    ways
        The projections that it owns: `down`, `up`.

    Source: github.com/ylsung/VL_adapter, `Adapter`.
    """

    def __init__(self, dim: int, reduction_factor: int, linear: Linear = nn.Linear, ways: Sequence[str] = WAYS):
        super().__init__()
        width = dim // reduction_factor
        if not width:
            raise InputError(f"reduction_factor {reduction_factor}: larger than the encoder's width of {dim}")
        self.down_sampler = linear(dim, width) if "down" in ways else None
        self.up_sampler = linear(width, dim) if "up" in ways else None


class Adapter(PerTask):
    """`x + norm(up(gelu(down(norm(x)))))` after a sublayer, with GELU's tanh approximation.

    Shared projections belong to the first task, so that each parameter has one name.

    Parameters
    ----------
    make
        Builds a bottleneck with the named projections.
    sharing
        What tasks share: `single`, both projections; `multiple`, nothing; `down` or `up`, that projection.
    norms
        The LayerNorms around the bottleneck: `none`, `pre`, `post` or `both`.

    Source: Sung et al. 2022, "VL-Adapter", section 3.2; github.com/ylsung/VL_adapter, `AdapterController`.
    """

    def __init__(
        self, tasks: list[str], make: Callable[[Sequence[str]], Bottleneck], dim: int, sharing: str, norms: str
    ):
        super().__init__(tasks)
        shared = {"single": WAYS, "multiple": ()}.get(sharing, (sharing,))
        own = [way for way in WAYS if way not in shared]
        self.adapters = nn.ModuleDict({task: make(WAYS if task == tasks[0] else own) for task in tasks})
        self.pre_layer_norm = nn.LayerNorm(dim) if norms in ("pre", "both") else nn.Identity()
        self.post_layer_norm = nn.LayerNorm(dim) if norms in ("post", "both") else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., dim]` to `[..., dim]`."""
        own, first = self.adapters[self.task], self.adapters[self.tasks[0]]
        down, up = own.down_sampler or first.down_sampler, own.up_sampler or first.up_sampler
        inner = F.gelu(down(self.pre_layer_norm(hidden)), approximate="tanh")
        return hidden + self.post_layer_norm(up(inner))


def slots(encoder: nn.Module, cross_attention: bool) -> Iterator[tuple[nn.Module, str, AdapterSlot]]:
    """The parent, name and module of every adapter slot, those after cross-attention only if `cross_attention`."""
    for parent in list(encoder.modules()):
        for name, slot in list(parent.named_children()):
            if isinstance(slot, AdapterSlot) and (cross_attention or slot.kind != "cross-attention"):
                yield parent, name, slot


def add_adapters(encoder: nn.Module, settings: AdapterSettings, tasks: list[str], linear: Linear = nn.Linear) -> None:
    """Put an adapter after every sublayer: two per encoder layer, three per decoder layer."""
    for parent, name, slot in slots(encoder, settings.cross_attention):
        make = partial(Bottleneck, slot.dim, settings.reduction_factor, linear)
        adapter = Adapter(tasks, make, slot.dim, settings.sharing, settings.norms)
        initialise(adapter, encoder.init_std)
        setattr(parent, name, adapter)
