"""What T5, BART and BERT share as joint encoders: prompts, text tokens and visual tokens in one stack."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}

# VL-T5's additive mask (transformers 4.2): if every key is masked, attention is uniform instead of NaN.
MASKED = -10000.0


@dataclass(frozen=True)
class Encoded:
    """An encoder's output for a batch.

    Attributes
    ----------
    layers
        The outputs of the requested last layers, in order, each `[batch, positions, dim]`;
        positions are prompts, then text, then visual tokens.
    mask
        `[batch, positions]`, False for padding.
    text
        The positions of the text.
    """

    layers: tuple[Tensor, ...]
    mask: Tensor
    text: slice

    @property
    def hidden(self) -> Tensor:
        """The output of the last layer, `[batch, positions, dim]`."""
        return self.layers[-1]


class AdapterSlot(nn.Identity):
    """A slot in a sublayer where a tuning method may put a module `[..., dim]` -> `[..., dim]`.

    It is between the sublayer's last projection and its dropout and residual, where VL-Adapter puts adapters.

    Attributes
    ----------
    kind
        The sublayer: `self-attention`, `cross-attention` or `feed-forward`.
    layer
        The layer's index in its stack.
    """

    def __init__(self, kind: str, layer: int, dim: int):
        super().__init__()
        self.kind, self.layer, self.dim = kind, layer, dim


class Stack(nn.Module):
    """A stack of layers with a joint encoder's additions.

    Attributes
    ----------
    prompt
        None, or a module that returns the `[prompts, dim]` before the text.
    visual_embedding
        None, or a `vlret.encoders.visual.VisualEmbedding`.
    checkpointing
        Whether to recompute layers in the backward pass.
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
        """Prompts, text and visual tokens as one sequence `[batch, positions, dim]`, its mask, and the text's slice.

        Parameters
        ----------
        text, mask
            Embeddings `[batch, tokens, dim]` and their mask `[batch, tokens]`; None without text, which also drops
            the prompts (as in cvlp).
        image
            Arguments of `visual_embedding`, `features` being None without an image; or `visual`, tokens that it made
            before, and their `mask`.
        norm, shared
            The norm of prompts and text, and of visual tokens too if shared.
        """
        prompts, visual, kept = 0, None, None
        if image.get("visual") is not None:
            visual, kept = image["visual"], image["mask"]
        elif image["features"] is not None:
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
        """Pass `hidden` through all layers and return the outputs of the last `keep`, in order."""
        outputs: list[Tensor] = []
        for layer in layers:
            if self.checkpointing and self.training:
                hidden = checkpoint(layer, hidden, *context, use_reentrant=False)
            else:
                hidden = layer(hidden, *context)
            outputs = [*outputs, hidden][-keep:]
        return tuple(outputs)


def see(encoder: nn.Module, features: Tensor, boxes: Tensor, visual_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The visual tokens of images and their mask, which a T5, BART or BERT takes as `visual` and `visual_mask`."""
    table = encoder.get_submodule(encoder.token_embedding).weight
    return encoder.encoder.visual_embedding(features, boxes, visual_mask, table)


def split_heads(hidden: Tensor, heads: int) -> Tensor:
    """`[batch, positions, heads * width]` to `[batch, heads, positions, width]`."""
    return hidden.unflatten(-1, (heads, -1)).transpose(1, 2)


def key_mask(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """A mask `[batch, positions]` as an additive mask of keys, `[batch, 1, 1, positions]`.

    None if nothing is masked, the fused kernels' fastest path; checked only on CPU, where it needs no synchronisation.
    """
    if mask.device.type == "cpu" and bool(mask.all()):
        return None
    return (~mask[:, None, None, :]).to(dtype) * MASKED


def initialise(module: nn.Module, std: float | None) -> None:
    """Initialise linear maps and embeddings from N(0, `std`), biases to 0; None keeps PyTorch's initialisation.

    VL-BART initialises what it adds like its own weights; VL-T5 keeps PyTorch's default.
    """
    for part in module.modules():
        if std is not None and isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
