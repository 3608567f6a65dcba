"""Bottleneck adapters (Houlsby et al. 2019), placed as VL-Adapter places them, for all tasks or for each."""

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
    """The projections of an adapter, to a width of `dim // reduction_factor` and back.

    Parameters
    ----------
    linear
        Makes a projection from its two widths.
    ways
        Which projections it has of its own: `down`, `up`.

    Source: github.com/ylsung/VL_adapter, `Adapter`.
    """

    def __init__(self, dim: int, reduction_factor: int, linear: Linear = nn.Linear, ways: Sequence[str] = WAYS):
        super().__init__()
        width = dim // reduction_factor
        if not width:
            raise InputError(f"reduction_factor {reduction_factor}: nothing is left of an encoder's width of {dim}")
        self.down_sampler = linear(dim, width) if "down" in ways else None
        self.up_sampler = linear(width, dim) if "up" in ways else None


class Adapter(PerTask):
    """`x + norm(up(gelu(down(norm(x)))))` after a sublayer, with GELU's tanh approximation.

    What tasks share belongs to the first one, so that each parameter has one name.

    Parameters
    ----------
    make
        Makes a bottleneck with the named projections.
    sharing
        What the tasks share: `single`, both projections; `multiple`, nothing; `down` or `up`, that one.
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
    """The parent, the name and the slot of every place for an adapter, a decoder's cross-attention if asked for."""
    for parent in list(encoder.modules()):
        for name, slot in list(parent.named_children()):
            if isinstance(slot, AdapterSlot) and (cross_attention or slot.kind != "cross-attention"):
                yield parent, name, slot


def add_adapters(encoder: nn.Module, settings: AdapterSettings, tasks: list[str], linear: Linear = nn.Linear) -> None:
    """Put an adapter after every sublayer: two in a layer of an encoder, three in one of a decoder."""
    for parent, name, slot in slots(encoder, settings.cross_attention):
        make = partial(Bottleneck, slot.dim, settings.reduction_factor, linear)
        adapter = Adapter(tasks, make, slot.dim, settings.sharing, settings.norms)
        initialise(adapter, encoder.init_std)
        setattr(parent, name, adapter)
