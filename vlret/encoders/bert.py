"""A compact BERT that takes visual tokens and prompts besides text, with the published parameter names.

Source: Devlin et al. 2019, "BERT"; names as in Hugging Face `BertModel` without its pooler.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vlret.encoders.dropout import Dropout, attention, rounded
from vlret.encoders.joint import ACTIVATIONS, AdapterSlot, Encoded, Stack, key_mask, split_heads


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT, under the names of its `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    pad_token_id: int = 0


class BertEmbeddings(nn.Module):
    """Token + position + type embeddings; all text has type 0."""

    def __init__(self, config: BertConfig):
        super().__init__()
        dim = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, dim, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, dim)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor) -> Tensor:
        """`[batch, tokens]` ids to `[batch, tokens, dim]`, before the norm."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        kinds = self.token_type_embeddings.weight[0]
        return self.word_embeddings(input_ids) + self.position_embeddings(positions) + kinds


class BertAttention(nn.Module):
    """Multi-head self-attention by torch's fused kernel, and its output projection."""

    def __init__(self, config: BertConfig, layer: int):
        super().__init__()
        dim = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.self = nn.ModuleDict({name: nn.Linear(dim, dim) for name in ("query", "key", "value")})
        self.output = BertOutput(dim, config, AdapterSlot("self-attention", layer, dim))

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """`[batch, positions, dim]` to the same shape; `mask` `[batch, 1, 1, positions]` is added to the scores."""
        states = rounded(hidden)
        query, key, value = (split_heads(self.self[name](states), self.heads) for name in ("query", "key", "value"))
        dropout = self.dropout if self.training else 0.0
        mixed = attention(query, key, value, mask, dropout)
        return self.output(mixed.transpose(1, 2).flatten(2), hidden)


class BertOutput(nn.Module):
    """Projection, adapter, dropout, residual, norm: the end of both sublayers."""

    def __init__(self, inner: int, config: BertConfig, slot: AdapterSlot):
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.adapter = slot
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """`[batch, tokens, inner]` and `[batch, tokens, dim]` to `[batch, tokens, dim]`."""
        return self.LayerNorm(self.dropout(self.adapter(self.dense(hidden))) + residual)


class BertLayer(nn.Module):
    """Attention and feed-forward network, each followed by residual and norm."""

    def __init__(self, config: BertConfig, layer: int):
        super().__init__()
        dim, inner = config.hidden_size, config.intermediate_size
        self.attention = BertAttention(config, layer)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(dim, inner)})
        self.output = BertOutput(inner, config, AdapterSlot("feed-forward", layer, dim))
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """`[batch, positions, dim]` to the same shape."""
        hidden = self.attention(hidden, mask)
        return self.output(self.activation(self.intermediate["dense"](hidden)), hidden)


class BertStack(Stack):
    """BERT's layers."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config, layer) for layer in range(config.num_hidden_layers))


class Bert(nn.Module):
    """One BERT for text and visual tokens.

    Prompts precede the text, have no position and go through the embeddings' norm (as in VL-Adapter's BART); visual
    tokens follow the text, already normed by the visual embedding.
    """

    # Suffixes (regular expressions) of the modules that LoRA and (IA)3 change.
    projections: ClassVar = {"query": "query", "key": "key", "value": "value", "feed-forward": r"\d+\.output\.dense"}
    # The name of the token embedding, `[vocabulary, dim]`.
    token_embedding = "embeddings.word_embeddings"
    visual_norm = nn.LayerNorm
    # New modules are initialised from N(0, init_std); None for PyTorch's default.
    init_std = None

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertStack(config)
        self.decoder = None

    @property
    def dim(self) -> int:
        """The width of the hidden states."""
        return self.config.hidden_size

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        features: Tensor | None = None,
        boxes: Tensor | None = None,
        visual_mask: Tensor | None = None,
        keep: int = 1,
        **order: Tensor,
    ) -> Encoded:
        """Encode a batch of texts, of images, or of both; arguments as in `vlret.encoders.t5.T5.forward`."""
        stack, text, mask = self.encoder, None, attention_mask
        if input_ids is not None:
            text = self.embeddings(input_ids)
            mask = input_ids != self.config.pad_token_id if mask is None else mask
        tokens = self.embeddings.word_embeddings.weight
        image = {"features": features, "boxes": boxes, "mask": visual_mask, "tokens": tokens, **order}
        hidden, mask, where = stack.join(text, mask, image, self.embeddings.LayerNorm)
        hidden = self.embeddings.dropout(hidden)
        outputs = stack.run(stack.layer, hidden, key_mask(mask, hidden.dtype), keep=keep)
        return Encoded(outputs, mask, where)
