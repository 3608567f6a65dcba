"""What T5, BART and BERT share as joint encoders: prompts, text tokens and visual tokens in one stack."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}

# VL-T5's additive mask (transformers 4.2): with every key masked, attention becomes uniform and not NaN.
MASKED = -10000.0


@dataclass(frozen=True)
class Encoded:
    """What an encoder says of a batch.

    Attributes
    ----------
    layers
        The outputs of the last layers that were asked for, the last one last, each `[batch, positions, dim]`;
        positions are prompts, then text, then visual tokens.
    mask
        `[batch, positions]`, False for padding.
    text
        Which positions are text.
    """

    layers: tuple[Tensor, ...]
    mask: Tensor
    text: slice

    @property
    def hidden(self) -> Tensor:
        """The output of the last layer, `[batch, positions, dim]`."""
        return self.layers[-1]


class AdapterSlot(nn.Identity):
    """A place in a sublayer where a tuning method may put a module `[..., dim]` -> `[..., dim]`.

    It stands after the sublayer's last projection and before its dropout and residual, where VL-Adapter puts adapters.

    Attributes
    ----------
    kind
        The sublayer: `self-attention`, `cross-attention` or `feed-forward`.
    layer
        The layer's place in its stack.
    """

    def __init__(self, kind: str, layer: int, dim: int):
        super().__init__()
        self.kind, self.layer, self.dim = kind, layer, dim


class Stack(nn.Module):
    """A stack of layers with what joint encoders add to it.

    Attributes
    ----------
    prompt
        None, or a module that gives `[prompts, dim]` to stand before the text.
    visual_embedding
        None, or a `vlret.encoders.visual.VisualEmbedding`.
    checkpointing
        Whether layers are computed again in the backward pass instead of kept.
    """

    def __init__(self):
        super().__init__()
        self.prompt: nn.Module | None = None
        self.visual_embedding: nn.Module | None = None
        self.checkpointing = False

    def join(
        self,
        text: Tensor | None,
        mask: Tensor | None,
        image: dict[str, Tensor | None],
        norm: nn.Module | None = None,
        shared: bool = False,
    ) -> tuple[Tensor, Tensor, slice]:
        """Prompts, text and visual tokens as one sequence `[batch, positions, dim]`, its mask, and where the text is.

        Parameters
        ----------
        text, mask
            Embeddings `[batch, tokens, dim]` and their mask `[batch, tokens]`; None for an image alone, which then has
            no prompts before it (as in cvlp).
        image
            What `visual_embedding` takes; `features` of None for a text alone.
        norm, shared
            The norm of the text's embeddings, prompts included, and of visual tokens too where it is shared.
        """
        prompts, visual, kept = 0, None, None
        if image["features"] is not None:
            visual, kept = self.visual_embedding(**image)
        if text is not None and self.prompt is not None:
            prefix = self.prompt().to(text.dtype).expand(len(text), -1, -1)
            prompts, text = prefix.shape[1], torch.cat([prefix, text], dim=1)
            mask = torch.cat([mask.new_ones(prefix.shape[:2]), mask], dim=1)
        if text is not None and norm is not None and not shared:
            text = norm(text)
        hidden = torch.cat([part for part in (text, visual) if part is not None], dim=1)
        masks = torch.cat([part.bool() for part in (mask, kept) if part is not None], dim=1)
        if norm is not None and shared:
            hidden = norm(hidden)
        return hidden, masks, slice(prompts, 0 if text is None else text.shape[1])

    def run(
        self, layers: Iterable[Callable], hidden: Tensor, *context: Tensor | None, keep: int = 1
    ) -> tuple[Tensor, ...]:
        """`hidden` through all layers; the outputs of the last `keep`, the last one last."""
        outputs: list[Tensor] = []
        for layer in layers:
            if self.checkpointing and self.training:
                hidden = checkpoint(layer, hidden, *context, use_reentrant=False)
            else:
                hidden = layer(hidden, *context)
            outputs = [*outputs, hidden][-keep:]
        return tuple(outputs)


def split_heads(hidden: Tensor, heads: int) -> Tensor:
    """`[batch, positions, heads * width]` to `[batch, heads, positions, width]`."""
    return hidden.unflatten(-1, (heads, -1)).transpose(1, 2)


def key_mask(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """A mask `[batch, positions]` as what is added to the scores of keys, `[batch, 1, 1, positions]`.

    None where nothing is masked, which the fused kernels like best; only asked on CPU, where looking costs nothing.
    """
    if mask.device.type == "cpu" and bool(mask.all()):
        return None
    return (~mask[:, None, None, :]).to(dtype) * MASKED


def initialise(module: nn.Module, std: float | None) -> None:
    """Draw linear maps and embeddings from N(0, `std`) with biases of 0; with None they stay as PyTorch made them.

    VL-BART draws all that it adds like its own weights; VL-T5 leaves PyTorch's default.
    """
    for part in module.modules():
        if std is not None and isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
