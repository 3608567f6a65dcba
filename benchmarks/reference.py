"""cvlp's approach, reimplemented for comparison: eager T5 joint encoder, input order, features read as lists.

In github.com/grimalPaul/cvlp at 9b64822f, `processing/embedding_dataset.py` takes batches of 128 passages in order,
reads their images' rows as Python lists, once for features and once for boxes, and pads to the longest text; the
collator of `cvlep/viquae_data.py` pads to the tokenizer's 512. Its T5 is from transformers 4.2, which materialises
attention scores, bias, softmax and each step of the norm. To make vectors comparable, the mean here excludes padding.
"""

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.t5 import T5Config, relative_position_bucket

BATCH = 128


class Norm(nn.Module):
    """T5's norm, in separate steps."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, hidden: Tensor) -> Tensor:
        variance = hidden.to(torch.float32).pow(2).mean(-1, keepdim=True)
        hidden = hidden * torch.rsqrt(variance + self.eps)
        return self.weight * hidden


class Attention(nn.Module):
    """Self-attention that materialises scores, bias and weights."""

    def __init__(self, config: T5Config, relative: bool):
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.heads, self.dropout = config.num_heads, config.dropout_rate
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if relative:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        def split(states: Tensor) -> Tensor:
            return states.view(len(hidden), -1, self.heads, states.shape[-1] // self.heads).transpose(1, 2)

        query, key, value = (split(projection(hidden)) for projection in (self.q, self.k, self.v))
        scores = torch.matmul(query, key.transpose(3, 2))
        scores = scores + bias
        weights = F.softmax(scores.float(), dim=-1).type_as(scores)
        weights = F.dropout(weights, self.dropout, self.training)
        mixed = torch.matmul(weights, value).transpose(1, 2).contiguous()
        return self.o(mixed.view(*hidden.shape[:2], -1))


class AttentionLayer(nn.Module):
    def __init__(self, config: T5Config, relative: bool):
        super().__init__()
        self.SelfAttention = Attention(config, relative)
        self.layer_norm = Norm(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return hidden + self.dropout(self.SelfAttention(self.layer_norm(hidden), bias))


class FeedForwardLayer(nn.Module):
    def __init__(self, config: T5Config):
        super().__init__()
        wi, wo = nn.Linear(config.d_model, config.d_ff, bias=False), nn.Linear(config.d_ff, config.d_model, bias=False)
        self.DenseReluDense = nn.ModuleDict({"wi": wi, "wo": wo})
        self.layer_norm = Norm(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.dropout(F.relu(self.DenseReluDense["wi"](self.layer_norm(hidden))))
        return hidden + self.dropout(self.DenseReluDense["wo"](inner))


class Block(nn.Module):
    def __init__(self, config: T5Config, relative: bool):
        super().__init__()
        self.layer = nn.ModuleList([AttentionLayer(config, relative), FeedForwardLayer(config)])

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return self.layer[1](self.layer[0](hidden, bias))


class Visual(nn.Module):
    """VL-T5's visual embedding: appearance, position, image order, object order."""

    def __init__(self, config: T5Config, width: int):
        super().__init__()

        def branch(width: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(width, config.d_model), Norm(config.d_model, config.layer_norm_epsilon))

        self.feat_embedding, self.absolute_vis_pos_embedding = branch(width), branch(5)
        self.img_order_embedding = nn.Embedding(2, config.d_model)

    def forward(self, features: Tensor, boxes: Tensor, tokens: nn.Embedding) -> Tensor:
        area = (boxes[..., 3] - boxes[..., 2]) * (boxes[..., 1] - boxes[..., 0])
        place = self.absolute_vis_pos_embedding(torch.cat([boxes, area.unsqueeze(2)], dim=2))
        order = torch.arange(features.shape[1]).unsqueeze(0).expand(len(features), -1)
        image = self.img_order_embedding(torch.zeros_like(order))
        return self.feat_embedding(features) + place + image + tokens(tokens.num_embeddings - 1 - order)


class EagerT5(nn.Module):
    """The joint encoder, with the parameter names of `vlret.encoders.t5.T5`."""

    def __init__(self, config: T5Config, width: int):
        super().__init__()
        self.config, self.shared = config, nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = nn.Module()
        self.encoder.visual_embedding = Visual(config, width)
        self.encoder.block = nn.ModuleList(Block(config, layer == 0) for layer in range(config.num_layers))
        self.encoder.final_layer_norm = Norm(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, features: Tensor, boxes: Tensor) -> Tensor:
        """Texts `[batch, tokens]` and images `[batch, regions, width]` to vectors of length 1, `[batch, dim]`."""
        encoder = self.encoder
        visual = encoder.visual_embedding(features, boxes, self.shared)
        hidden = self.dropout(torch.cat([self.shared(input_ids), visual], dim=1))
        mask = torch.cat([attention_mask, attention_mask.new_ones(visual.shape[:2])], dim=1)
        bias = self.position_bias(input_ids.shape[1], hidden.shape[1]) + (1.0 - mask[:, None, None, :].float()) * -1e4
        for block in encoder.block:
            hidden = block(hidden, bias)
        hidden = self.dropout(encoder.final_layer_norm(hidden))
        weights = mask.unsqueeze(-1).float()
        return F.normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)

    def position_bias(self, text: int, positions: int) -> Tensor:
        places = torch.arange(text)
        config = self.config
        buckets, distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
        bucket = relative_position_bucket(places[None, :] - places[:, None], True, buckets, distance)
        values = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias(bucket).permute(2, 0, 1)
        bias = values.new_zeros(1, len(values), positions, positions)
        bias[:, :, :text, :text] = values
        return bias


def eager(ours: BiEncoder) -> EagerT5:
    """The reference with the weights of a bi-encoder over `T5`."""
    encoder = ours.question.encoder
    width = encoder.encoder.visual_embedding.feat_embedding[0].in_features
    reference = EagerT5(encoder.config, width)
    reference.load_state_dict(encoder.state_dict())
    return reference.eval()


def inputs(texts: list[str], rows: list[int], table: datasets.Dataset, tokens, padding: bool | str) -> dict:
    """The inputs for some texts and the images in `rows` of a table of lists."""
    images = {name: torch.Tensor(table[rows][name]) for name in ("features", "boxes")}
    text = tokens(texts, padding=padding, truncation=True, max_length=512, return_tensors="pt")
    return {"input_ids": text["input_ids"], "attention_mask": text["attention_mask"], **images}


@torch.no_grad()
def embed(reference: EagerT5, texts: list[str], images: np.ndarray, table: datasets.Dataset, tokens) -> np.ndarray:
    """The vectors of passages, encoded in input order, `[passages, dim]`."""
    vectors = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        rows = images[start : start + len(batch)].tolist()
        vectors.append(reference(**inputs(batch, rows, table, tokens, True)).numpy())
    return np.concatenate(vectors)
