"""A compact BART that takes visual tokens and prompts besides text, with the published parameter names.

Source: Lewis et al. 2020, "BART", section 2; Cho et al. 2021, "Unifying Vision-and-Language Tasks via Text
Generation", section 3 (VL-BART); parameter names of github.com/j-min/VL-T5, without their leading `model.`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vlret.encoders.dropout import Dropout, attention, rounded
from vlret.encoders.joint import ACTIVATIONS, AdapterSlot, Encoded, Stack, key_mask, split_heads

# Position tables begin with two unused rows.
OFFSET = 2


@dataclass(frozen=True)
class BartConfig:
    """The sizes of a BART, under the names of its `config.json`.

    `share_vis_lang_layer_norm` is VL-BART's: text and visual tokens share the embeddings' norm.
    """

    vocab_size: int
    d_model: int
    encoder_ffn_dim: int
    encoder_layers: int
    encoder_attention_heads: int
    max_position_embeddings: int
    decoder_ffn_dim: int = 0
    decoder_layers: int = 0
    decoder_attention_heads: int = 0
    activation_function: str = "gelu"
    scale_embedding: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1
    decoder_start_token_id: int = 2
    share_vis_lang_layer_norm: bool = False


class BartAttention(nn.Module):
    """Multi-head attention by torch's fused kernel."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, hidden: Tensor, states: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """Queries from `hidden`, keys and values from `states`, both `[batch, positions, dim]`."""
        hidden, states = (rounded(hidden),) * 2 if states is hidden else (hidden, rounded(states))
        parts = zip((self.q_proj, self.k_proj, self.v_proj), (hidden, states, states), strict=True)
        query, key, value = (split_heads(projection(source), self.heads) for projection, source in parts)
        dropout = self.dropout if self.training else 0.0
        mixed = attention(query, key, value, mask, dropout, causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class BartLayer(nn.Module):
    """Self-attention, cross-attention (decoder only), feed-forward; each ends in adapter, dropout, residual, norm."""

    def __init__(self, config: BartConfig, layer: int, decoder: bool):
        super().__init__()
        heads = config.decoder_attention_heads if decoder else config.encoder_attention_heads
        inner = config.decoder_ffn_dim if decoder else config.encoder_ffn_dim
        dim, self.decoder = config.d_model, decoder
        self.self_attn = BartAttention(dim, heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        slot = AdapterSlot("self-attention", layer, dim)
        if decoder:
            self.self_attn_adapter = slot
            self.encoder_attn = BartAttention(dim, heads, config.attention_dropout)
            self.enc_attn_adapter = AdapterSlot("cross-attention", layer, dim)
            self.encoder_attn_layer_norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        else:
            self.attn_adapter = slot
        self.fc1, self.fc2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.ff_adapter = AdapterSlot("feed-forward", layer, dim)
        self.final_layer_norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.activation_function]
        self.dropout, self.activation_dropout = Dropout(config.dropout), Dropout(config.activation_dropout)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, states: Tensor | None = None, states_mask: Tensor | None = None
    ) -> Tensor:
        """`[batch, positions, dim]` to the same shape; a decoder also takes the encoder's `states`."""
        mixed = self.self_attn(hidden, hidden, mask, causal=self.decoder)
        adapter = self.self_attn_adapter if self.decoder else self.attn_adapter
        hidden = self.self_attn_layer_norm(hidden + self.dropout(adapter(mixed)))
        if states is not None:
            mixed = self.enc_attn_adapter(self.encoder_attn(hidden, states, states_mask))
            hidden = self.encoder_attn_layer_norm(hidden + self.dropout(mixed))
        inner = self.activation_dropout(self.activation(self.fc1(hidden)))
        return self.final_layer_norm(hidden + self.dropout(self.ff_adapter(self.fc2(inner))))


class BartStack(Stack):
    """BART's encoder or decoder."""

    def __init__(self, config: BartConfig, decoder: bool):
        super().__init__()
        depth = config.decoder_layers if decoder else config.encoder_layers
        self.embed_positions = nn.Embedding(config.max_position_embeddings + OFFSET, config.d_model)
        self.layers = nn.ModuleList(BartLayer(config, layer, decoder) for layer in range(depth))
        self.layernorm_embedding = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def add_positions(self, text: Tensor) -> Tensor:
        """Embeddings `[batch, tokens, dim]` plus those of their positions, from 0."""
        return text + self.embed_positions.weight[OFFSET : OFFSET + text.shape[1]]


class Bart(nn.Module):
    """One BART encoder for text and visual tokens; with a decoder if the config has decoder layers.

    Neither visual tokens nor prompts have positions; prompts go through the embeddings' norm.
    """

    # Suffixes (regular expressions) of the modules that LoRA and (IA)3 change.
    projections: ClassVar = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "feed-forward": "fc2"}
    # The name of the token embedding, `[vocabulary, dim]`.
    token_embedding = "shared"
    visual_norm = nn.LayerNorm
    # New modules are initialised from N(0, init_std); None for PyTorch's default.
    init_std = 0.02

    def __init__(self, config: BartConfig):
        super().__init__()
        self.config, self.scale = config, math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = BartStack(config, decoder=False)
        self.decoder = BartStack(config, decoder=True) if config.decoder_layers else None

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
        """Encode a batch of texts, of images, or of both; arguments as in `vlret.encoders.t5.T5.forward`.

        `inputs_embeds` are not scaled.
        """
        stack, text, mask = self.encoder, inputs_embeds, attention_mask
        if input_ids is not None:
            text = self.shared(input_ids) * self.scale
            mask = input_ids != self.config.pad_token_id if mask is None else mask
        image = {"features": features, "boxes": boxes, "mask": visual_mask, "tokens": self.shared.weight, **order}
        text = None if text is None else stack.add_positions(text)
        shared = self.config.share_vis_lang_layer_norm
        hidden, mask, where = stack.join(text, mask, image, stack.layernorm_embedding, shared)
        outputs = stack.run(stack.layers, stack.dropout(hidden), key_mask(mask, hidden.dtype), keep=keep)
        return Encoded(outputs, mask, where)

    def decode(self, encoded: Encoded, decoder_input_ids: Tensor | None = None) -> Tensor:
        """The decoder's output, `[batch, tokens, dim]`.

        `decoder_input_ids`, `[batch, tokens]`, defaults to the start token; its padding is not masked, as in VL-BART.
        """
        stack, states = self.decoder, encoded.hidden
        if decoder_input_ids is None:
            start = self.config.decoder_start_token_id
            decoder_input_ids = encoded.mask.new_full((len(states), 1), start, dtype=torch.long)
        hidden = stack.layernorm_embedding(stack.add_positions(self.shared(decoder_input_ids) * self.scale))
        masked = key_mask(encoded.mask, hidden.dtype)
        (output,) = stack.run(stack.layers, stack.dropout(hidden), None, states, masked)
        return output
