"""A compact T5 that takes visual tokens and prompts besides text, with the published parameter names.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
section 2.1; Cho et al. 2021, "Unifying Vision-and-Language Tasks via Text Generation", section 3 (VL-T5);
parameter names of github.com/j-min/VL-T5.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.dropout import Dropout, attention, rounded
from vlret.encoders.joint import AdapterSlot, Encoded, Stack, key_mask, split_heads


@dataclass(frozen=True)
class T5Config:
    """The sizes of a T5, under the names of its `config.json`."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    num_decoder_layers: int = 0
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    dropout_rate: float = 0.1
    pad_token_id: int = 0
    decoder_start_token_id: int = 0


class T5Norm(nn.RMSNorm):
    """T5's norm: no mean subtraction, no bias."""

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__(dim, eps=eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., dim]` to the same shape, in the precision of the weights even under autocast, like LayerNorm."""
        return super().forward(hidden.to(self.weight.dtype))


def relative_position_bucket(distance: Tensor, bidirectional: bool, buckets: int, max_distance: int) -> Tensor:
    """The bucket of each distance (key position minus query position): exact when near, logarithmic when far.

    Source: Raffel et al. 2020, section 2.1; github.com/huggingface/transformers, `T5Attention`.
    """
    start = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        start = (distance > 0) * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    far = torch.log(distance.float().clamp(min=1) / exact) / math.log(max_distance / exact) * (buckets - exact)
    far = (exact + far.long()).clamp(max=buckets - 1)
    return start + torch.where(distance < exact, distance, far)


class T5Attention(nn.Module):
    """Multi-head attention without scaling or biases, by torch's fused kernel."""

    def __init__(self, config: T5Config, relative: bool = False):
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.heads, self.dropout = config.num_heads, config.dropout_rate
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if relative:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, hidden: Tensor, states: Tensor, bias: Tensor | None) -> Tensor:
        """Queries from `hidden`, keys and values from `states`, both `[batch, positions, dim]`.

        `bias`, `[batch or 1, heads or 1, queries, keys]`, is added to the scores.
        """
        hidden, states = (rounded(hidden),) * 2 if states is hidden else (hidden, rounded(states))
        parts = zip((self.q, self.k, self.v), (hidden, states, states), strict=True)
        query, key, value = (split_heads(projection(source), self.heads) for projection, source in parts)
        dropout = self.dropout if self.training else 0.0
        mixed = attention(query, key, value, bias, dropout, scale=1.0)
        return self.o(mixed.transpose(1, 2).flatten(2))


class T5SelfAttentionLayer(nn.Module):
    """Norm, self-attention, adapter, dropout, residual."""

    def __init__(self, config: T5Config, layer: int):
        super().__init__()
        self.SelfAttention = T5Attention(config, relative=layer == 0)
        self.attn_adapter = AdapterSlot("self-attention", layer, config.d_model)
        self.layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon)
        self.dropout = Dropout(config.dropout_rate)

    def forward(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """`[batch, positions, dim]` to the same shape."""
        normed = self.layer_norm(hidden)
        return hidden + self.dropout(self.attn_adapter(self.SelfAttention(normed, normed, bias)))


class T5CrossAttentionLayer(nn.Module):
    """Norm, attention to the encoder, adapter, dropout, residual."""

    def __init__(self, config: T5Config, layer: int):
        super().__init__()
        self.EncDecAttention = T5Attention(config)
        self.enc_attn_adapter = AdapterSlot("cross-attention", layer, config.d_model)
        self.layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon)
        self.dropout = Dropout(config.dropout_rate)

    def forward(self, hidden: Tensor, states: Tensor, bias: Tensor | None) -> Tensor:
        """`[batch, tokens, dim]` and the encoder's `[batch, positions, dim]` to `[batch, tokens, dim]`."""
        mixed = self.EncDecAttention(self.layer_norm(hidden), states, bias)
        return hidden + self.dropout(self.enc_attn_adapter(mixed))


class T5FeedForwardLayer(nn.Module):
    """Norm, feed-forward network, adapter, dropout, residual."""

    def __init__(self, config: T5Config, layer: int):
        super().__init__()
        wi, wo = nn.Linear(config.d_model, config.d_ff, bias=False), nn.Linear(config.d_ff, config.d_model, bias=False)
        self.DenseReluDense = nn.ModuleDict({"wi": wi, "wo": wo})
        self.ff_adapter = AdapterSlot("feed-forward", layer, config.d_model)
        self.layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon)
        self.dropout = Dropout(config.dropout_rate)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[batch, positions, dim]` to the same shape."""
        inner = self.dropout(F.relu(self.DenseReluDense["wi"](self.layer_norm(hidden)), inplace=True))
        return hidden + self.dropout(self.ff_adapter(self._down(inner)))

    def _down(self, inner: Tensor) -> Tensor:
        """The down-projection; in fp32 under fp16 autocast, where T5's activations overflow (65,504).

        Source: github.com/huggingface/transformers, issue 5651: `wo` is kept in fp32.
        """
        kind, wo = inner.device.type, self.DenseReluDense["wo"]
        if not torch.is_autocast_enabled(kind) or torch.get_autocast_dtype(kind) != torch.float16:
            return wo(inner)
        with torch.autocast(kind, enabled=False):
            return wo(inner.to(wo.weight.dtype))


class T5Block(nn.Module):
    """Self-attention, cross-attention (decoder only), feed-forward."""

    def __init__(self, config: T5Config, layer: int, decoder: bool):
        super().__init__()
        cross = [T5CrossAttentionLayer(config, layer)] if decoder else []
        self.layer = nn.ModuleList([T5SelfAttentionLayer(config, layer), *cross, T5FeedForwardLayer(config, layer)])

    def forward(
        self, hidden: Tensor, bias: Tensor | None, states: Tensor | None = None, states_bias: Tensor | None = None
    ) -> Tensor:
        """`[batch, positions, dim]` to the same shape; a decoder also takes the encoder's `states`."""
        hidden = self.layer[0](hidden, bias)
        if states is not None:
            hidden = self.layer[1](hidden, states, states_bias)
        return self.layer[-1](hidden)


class T5Stack(Stack):
    """T5's encoder or decoder."""

    def __init__(self, config: T5Config, decoder: bool):
        super().__init__()
        self.config, self.decoder = config, decoder
        depth = config.num_decoder_layers if decoder else config.num_layers
        self.block = nn.ModuleList(T5Block(config, layer, decoder) for layer in range(depth))
        self.final_layer_norm = T5Norm(config.d_model, config.layer_norm_epsilon)
        self.dropout = Dropout(config.dropout_rate)

    def position_bias(self, text: int, positions: int) -> Tensor:
        """Relative bias among the first `text` positions, 0 elsewhere: `[1, heads, positions, positions]`."""
        table = self.block[0].layer[0].SelfAttention.relative_attention_bias
        places = torch.arange(text, device=table.weight.device)
        bucket = relative_position_bucket(
            places[None, :] - places[:, None],
            not self.decoder,
            self.config.relative_attention_num_buckets,
            self.config.relative_attention_max_distance,
        )
        visual = positions - text
        return F.pad(table(bucket).permute(2, 0, 1), (0, visual, 0, visual)).unsqueeze(0)


class T5(nn.Module):
    """One T5 encoder for text and visual tokens; with a decoder if the config has decoder layers.

    Visual tokens have no position: the relative bias covers only prompts and text.
    """

    # Suffixes (regular expressions) of the modules that LoRA and (IA)3 change.
    projections: ClassVar = {"query": "q", "key": "k", "value": "v", "feed-forward": "wo"}
    # The name of the token embedding, `[vocabulary, dim]`.
    token_embedding = "shared"
    visual_norm = T5Norm
    # New modules are initialised from N(0, init_std); None for PyTorch's default.
    init_std = None

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, decoder=False)
        self.decoder = T5Stack(config, decoder=True) if config.num_decoder_layers else None

    @property
    def dim(self) -> int:
        """The width of the hidden states."""
        return self.config.d_model

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        features: Tensor | None = None,
        boxes: Tensor | None = None,
        visual_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        keep: int = 1,
        **order: Tensor,
    ) -> Encoded:
        """Encode a batch of texts, of images, or of both.

        Parameters
        ----------
        input_ids, attention_mask
            `[batch, tokens]`; without a mask, padding is where the padding id is.
        features, boxes, visual_mask
            As `vlret.encoders.visual.VisualEmbedding` takes them; likewise `image_ids` and `object_ids`.
        inputs_embeds
            `[batch, tokens, dim]`, instead of `input_ids`.
        keep
            How many of the last layers to return, each after the final norm so that their scales match.
        """
        stack, text, mask = self.encoder, inputs_embeds, attention_mask
        if input_ids is not None:
            text = self.shared(input_ids)
            mask = input_ids != self.config.pad_token_id if mask is None else mask
        image = {"features": features, "boxes": boxes, "mask": visual_mask, "tokens": self.shared.weight, **order}
        hidden, mask, where = stack.join(text, mask, image)
        bias, masked = stack.position_bias(where.stop, hidden.shape[1]), key_mask(mask, hidden.dtype)
        bias = bias if masked is None else bias + masked
        outputs = stack.run(stack.block, stack.dropout(hidden), bias.to(hidden.dtype), keep=keep)
        return Encoded(tuple(stack.dropout(stack.final_layer_norm(output)) for output in outputs), mask, where)

    def decode(self, encoded: Encoded, decoder_input_ids: Tensor | None = None) -> Tensor:
        """The decoder's output after its final norm, `[batch, tokens, dim]`.

        `decoder_input_ids`, `[batch, tokens]`, defaults to the start token.
        """
        stack, states = self.decoder, encoded.hidden
        if decoder_input_ids is None:
            decoder_input_ids = encoded.mask.new_full(
                (len(states), 1), self.config.decoder_start_token_id, dtype=torch.long
            )
        hidden, length = stack.dropout(self.shared(decoder_input_ids)), decoder_input_ids.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
        bias = stack.position_bias(length, length).masked_fill(future, torch.finfo(hidden.dtype).min)
        (output,) = stack.run(stack.block, hidden, bias.to(hidden.dtype), states, key_mask(encoded.mask, hidden.dtype))
        return stack.dropout(stack.final_layer_norm(output))
