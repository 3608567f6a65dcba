"""Adapters that a network makes from a task, a layer and, in one kind, a sublayer (Hyperformer)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.encoders.joint import initialise
from vlret.encoders.tasks import PerTask
from vlret.settings import HyperFormer
from vlret.tuning.adapters import slots

# The sublayers in the order of their embeddings, and what the originals call them in names of parameters.
KINDS = {"feed-forward": "feed_forward", "self-attention": "self_attention", "cross-attention": "cross_attention"}


def linear(inner: int, outer: int) -> nn.Linear:
    """A linear map, N(0, 0.01) with a bias of 0 (Houlsby et al. 2019, section 3.6)."""
    layer = nn.Linear(inner, outer)
    initialise(layer, std=0.01)
    return layer


class Generator(nn.Module):
    """Makes the weight and the bias of one projection of an adapter.

    Source: github.com/ylsung/VL_adapter, `AdapterLayersHyperNet`.
    """

    def __init__(self, embedding: int, inner: int, outer: int):
        super().__init__()
        self.weight_generator = nn.Sequential(linear(embedding, outer * inner))
        self.bias_generator = nn.Sequential(linear(embedding, outer))

    def forward(self, embedding: Tensor, hidden: Tensor) -> Tensor:
        """Project `[..., inner]` to `[..., outer]` by what `embedding`, `[embedding]`, gives."""
        bias = self.bias_generator(embedding)
        return F.linear(hidden, self.weight_generator(embedding).view(len(bias), -1), bias)


class TaskEmbeddings(PerTask):
    """A learned vector for each task.

    Source: github.com/ylsung/VL_adapter, `TaskEmbeddingController`.
    """

    def __init__(self, tasks: list[str], dim: int):
        super().__init__(tasks)
        self.task_to_embeddings = nn.ParameterDict({task: nn.Parameter(torch.randn(dim)) for task in tasks})

    def forward(self) -> Tensor:
        """That of the active task, `[dim]`."""
        return self.task_to_embeddings[self.task]


class HyperNetwork(nn.Module):
    """Makes all adapters of a stack from embeddings of the task, of the layer and, with `one`, of the sublayer.

    Parameters
    ----------
    layers, dim
        The depth of the stack and its width.
    kinds
        The kinds of sublayers that have adapters.
    settings
        Of the method. `kind`: `unique` has generators for each kind of sublayer, `one` has one pair for all and tells
        them apart by an embedding.

    Source: Mahabadi et al. 2021, "Parameter-efficient Multi-task Fine-tuning for Transformers via Shared
    Hypernetworks", section 2 (Hyperformer++); github.com/ylsung/VL_adapter, `AdapterLayersHyperNetController` and
    `AdapterLayersOneHyperNetController`.
    """

    def __init__(self, layers: int, dim: int, kinds: list[str], settings: HyperFormer):
        super().__init__()
        self.one = settings.kind == "one"
        embedding, projected = settings.task_embedding, settings.projected
        width = dim // settings.reduction_factor
        self.layer_id_embeddings = nn.Embedding(layers, embedding)
        self.adapters_block_type = nn.Embedding(len(KINDS), embedding) if self.one else None
        hidden = linear(embedding * (3 if self.one else 2), settings.hidden)
        self.task_hypernet = nn.ModuleDict(
            {"task_embeding_generator": nn.Sequential(hidden, nn.ReLU(), linear(settings.hidden, projected))}
        )
        self.LayerNorm = nn.LayerNorm(projected, eps=1e-6)
        for prefix in [""] if self.one else [f"{KINDS[kind]}_" for kind in kinds]:
            setattr(self, f"{prefix}up_sampler_hyper_net", Generator(projected, width, dim))
            setattr(self, f"{prefix}down_sampler_hyper_net", Generator(projected, dim, width))

    def forward(self, task: Tensor, layer: int, kind: str, hidden: Tensor) -> Tensor:
        """What the adapter of a sublayer adds to its output `[..., dim]`; `task`, `[task_embedding]`, is its task."""
        parts = [task, self.layer_id_embeddings.weight[layer]]
        if self.one:
            parts.append(self.adapters_block_type.weight[list(KINDS).index(kind)])
        embedding = self.LayerNorm(self.task_hypernet["task_embeding_generator"](torch.cat(parts)))
        prefix = "" if self.one else f"{KINDS[kind]}_"
        down, up = (getattr(self, f"{prefix}{way}_sampler_hyper_net") for way in ("down", "up"))
        return up(embedding, F.gelu(down(embedding, hidden), approximate="tanh"))


class HyperAdapter(nn.Module):
    """The adapter of one sublayer, without parameters of its own.

    Source: github.com/ylsung/VL_adapter, `MetaLayersAdapterController`.
    """

    def __init__(self, tasks: TaskEmbeddings, network: HyperNetwork, layer: int, kind: str):
        super().__init__()
        # In a tuple, so that they are not registered here too: their parameters belong to the encoder and its stack.
        self.makers, self.layer, self.kind = (tasks, network), layer, kind

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., dim]` to `[..., dim]`."""
        tasks, network = self.makers
        return hidden + network(tasks(), self.layer, self.kind, hidden)


def add_hyperformer(encoder: nn.Module, settings: HyperFormer, tasks: list[str]) -> None:
    """Put adapters after every sublayer that a network for each stack makes."""
    embeddings = encoder.shared_task_embed = TaskEmbeddings(tasks, settings.task_embedding)
    for stack in (encoder.encoder, encoder.decoder):
        if stack is None:
            continue
        places = list(slots(stack, cross_attention=True))
        layers, kinds = 1 + max(slot.layer for _, _, slot in places), {slot.kind for _, _, slot in places}
        network = HyperNetwork(layers, encoder.dim, [kind for kind in KINDS if kind in kinds], settings)
        initialise(network, encoder.init_std)
        stack.adapter_layers_hyper_net = network
        for parent, name, slot in places:
            setattr(parent, name, HyperAdapter(embeddings, network, slot.layer, slot.kind))
