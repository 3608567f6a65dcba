"""A compact BERT that takes visual tokens and prompts beside its text, under the published parameter names.

Source: Devlin et al. 2019, "BERT"; names as in Hugging Face `BertModel` without its pooler.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


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
    """Token + position + type, all text being of type 0."""

    def __init__(self, config: BertConfig):
        super().__init__()
        dim = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, dim, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, dim)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor) -> Tensor:
        """`[batch, tokens]` ids to `[batch, tokens, dim]`, before the norm."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        kinds = self.token_type_embeddings.weight[0]
        return self.word_embeddings(input_ids) + self.position_embeddings(positions) + kinds


class BertAttention(nn.Module):
    """Multi-head self-attention and its output projection, through torch's fused attention."""

    def __init__(self, config: BertConfig):
        super().__init__()
        dim = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.self = nn.ModuleDict({name: nn.Linear(dim, dim) for name in ("query", "key", "value")})
        self.output = BertOutput(dim, dim, config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`[batch, tokens, dim]` and a mask `[batch, 1, 1, tokens]` to `[batch, tokens, dim]`."""
        parts = (self.self[name](hidden) for name in ("query", "key", "value"))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).flatten(2), hidden)


class BertOutput(nn.Module):
    """Projection, adapter, dropout, residual, norm: how both halves of a layer end.

    `adapter` is the identity until a tuning method puts one there: after the projection and before dropout,
    residual and norm, where VL-Adapter puts it in BART.
    """

    def __init__(self, inner: int, dim: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(inner, dim)
        self.adapter: nn.Module = nn.Identity()
        self.LayerNorm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """`[batch, tokens, inner]` and `[batch, tokens, dim]` to `[batch, tokens, dim]`."""
        return self.LayerNorm(self.dropout(self.adapter(self.dense(hidden))) + residual)


class BertLayer(nn.Module):
    """Attention, then the feed-forward network, each with residual and norm after it."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})
        self.output = BertOutput(config.intermediate_size, config.hidden_size, config)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`[batch, tokens, dim]` to `[batch, tokens, dim]`."""
        hidden = self.attention(hidden, mask)
        return self.output(self.activation(self.intermediate["dense"](hidden)), hidden)


class BertEncoder(nn.Module):
    """Prompts, text tokens and visual tokens in one stack.

    Prompts stand before the text and get no position, and they go through the embeddings' norm (as in VL-Adapter's
    BART); visual tokens stand after the text, already normed by the visual embedding.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.prompt: nn.Module | None = None
        self.visual_embedding: nn.Module | None = None

    @property
    def dim(self) -> int:
        """The width of the hidden states."""
        return self.config.hidden_size

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        features: Tensor | None = None,
        boxes: Tensor | None = None,
        visual_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Parameters
        ----------
        input_ids, attention_mask
            `[batch, text]`; the mask is 1 for a token and 0 for padding.
        features, boxes, visual_mask
            `[batch, regions, feature_dim]`, `[batch, regions, 4]`, `[batch, regions]`; 0 in the mask where there is
            no image. An encoder without a visual embedding takes None.

        Returns
        -------
        hidden states `[batch, prompts + text + visual, dim]` and their mask `[batch, prompts + text + visual]`; how
        many visual tokens regions become is the visual embedding's affair.
        """
        hidden, mask = self.embeddings(input_ids), attention_mask.bool()
        if self.prompt is not None:
            prompts = self.prompt().expand(len(hidden), -1, -1)
            hidden = torch.cat([prompts, hidden], dim=1)
            mask = torch.cat([mask.new_ones(prompts.shape[:2]), mask], dim=1)
        hidden = self.embeddings.dropout(self.embeddings.LayerNorm(hidden))
        if self.visual_embedding is not None:
            visual, kept = self.visual_embedding(features, boxes, visual_mask)
            hidden = torch.cat([hidden, self.embeddings.dropout(visual)], dim=1)
            mask = torch.cat([mask, kept], dim=1)
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, mask[:, None, None, :])
        return hidden, mask
