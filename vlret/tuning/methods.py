"""Tuning methods by name: what each adds to an encoder, and what of the encoder it trains beside that."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vlret.encoders.assemble import assemble
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.checkpoints import read_checkpoint
from vlret.files import InputError
from vlret.settings import ExperimentSettings, Tuning
from vlret.tuning.adapters import add_adapters
from vlret.tuning.compacter import add_compacters, add_low_rank_adapters
from vlret.tuning.hyperformer import add_hyperformer
from vlret.tuning.lora import add_ia3, add_lora
from vlret.tuning.prompts import add_prompts

TASKS = ("viquae",)


def everything(tower: Tower) -> Iterator[nn.Parameter]:
    """All parameters, the head's too."""
    return tower.parameters()


def visual_embedding(tower: Tower) -> Iterator[nn.Parameter]:
    """The visual embedding; the order of objects is none of its own, it belongs to the token embedding."""
    return (p for name, p in tower.named_parameters() if ".visual_embedding." in name)


def layer_norms(tower: Tower) -> Iterator[nn.Parameter]:
    """The norms of the stacks, RMS norms too, which stay frozen in the originals whatever one asks for."""
    for name, module in tower.named_modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and ".visual_embedding." not in name:
            yield from module.parameters()


def biases(tower: Tower) -> Iterator[nn.Parameter]:
    """All biases; those of T5, which has no others, are what it adds to scores of attention by relative position."""
    named = tower.named_parameters()
    return (p for name, p in named if name.endswith((".bias", ".relative_attention_bias.weight")))


def head(tower: Tower) -> Iterator[nn.Parameter]:
    """The projection after the pooling; `InputError` if there is none."""
    if not list(tower.projection.parameters()):
        raise InputError("tuning projection: the model has no head to train, its entry needs `head: {projection: …}`")
    return tower.projection.parameters()


def add_nothing(encoder: nn.Module, settings: Tuning, tasks: list[str]) -> None:
    """Leave the encoder as it is."""


@dataclass(frozen=True)
class Method:
    """`add` changes an encoder in place, all that it adds is trained; `trains` are parts trained beside it."""

    add: Callable[[nn.Module, Tuning, list[str]], None] = add_nothing
    trains: tuple[Callable[[Tower], Iterator[nn.Parameter]], ...] = ()


METHODS = {
    "zs": Method(),
    "full": Method(trains=(everything,)),
    "visual": Method(trains=(visual_embedding,)),
    "bitfit": Method(trains=(biases,)),
    "projection": Method(trains=(head,)),
    "prompt": Method(add_prompts),
    "adapter": Method(add_adapters),
    "adapter+projection": Method(add_adapters, trains=(head,)),
    "compacter": Method(add_compacters),
    "lradapter": Method(add_low_rank_adapters),
    "hyperformer": Method(add_hyperformer),
    "lora": Method(add_lora),
    "ia3": Method(add_ia3),
}

# Parts that a method trains too if its settings say so: the setting, its value, the part.
OPTIONS = (("visual", True, visual_embedding), ("unfreeze_layer_norms", True, layer_norms), ("bias", "all", biases))


def tune(model: BiEncoder, settings: Tuning, tasks: Sequence[str] = TASKS) -> None:
    """Add to each side what a tuning method adds, and let gradients reach exactly what it trains.

    Parameters
    ----------
    settings
        Of the method.
    tasks
        The tasks that parts may be of; the first is active (see `vlret.encoders.tasks.activate`).

    Raises
    ------
    InputError
        For settings that do not fit the encoder.
    """
    method = METHODS[settings.method]
    parts = [*method.trains, *(part for name, value, part in OPTIONS if getattr(settings, name, None) == value)]
    before = {id(parameter): name for name, parameter in model.named_parameters()}
    for tower in model.towers:
        method.add(tower.encoder, settings, list(tasks))
    trained = {id(parameter) for tower in model.towers for part in parts for parameter in part(tower)}
    named = dict(model.named_parameters())
    for parameter in named.values():
        parameter.requires_grad_(id(parameter) in trained or id(parameter) not in before)
    # What is added may wrap a published parameter and so rename it.
    model.pretrained = frozenset(name for name, p in named.items() if before.get(id(p)) in model.pretrained)


def build(settings: ExperimentSettings, weights: Mapping[str, Path], feature_dim: int | None) -> BiEncoder:
    """The bi-encoder of an experiment before training: pretrained, with what its tuning method adds, seeded.

    Parts that exist once a task are made for each task of the training, and work for the first of them
    until `vlret.encoders.tasks.activate` says otherwise. Parameters are those of `vlret.encoders.assemble.assemble`;
    `weights` may have a `start` too, the checkpoint of the experiment that this one goes on from (`begin`).
    """
    torch.manual_seed(settings.seed)
    published = {name: path for name, path in weights.items() if name != "start"}
    model, tasks = assemble(settings, published, feature_dim), _tasks(settings)
    if "start" in weights:
        begin(model, settings, tasks, weights["start"])
    else:
        tune(model, settings.tuning, tasks)
    return model


def begin(model: BiEncoder, settings: ExperimentSettings, tasks: Sequence[str], checkpoint: Path) -> None:
    """Tune a model that has what another experiment trained: after pre-training, say.

    That experiment trained what is there, or it is tuned in the same way, and its parts go on being trained: those of
    all tasks, whatever this one's are called. What it trained is left out of this one's checkpoint unless it is trained
    here too.

    Raises
    ------
    InputError
        If the checkpoint is of another model, or of parts that this experiment has not.
    """
    stored, theirs = read_checkpoint(checkpoint)
    if theirs.model != settings.model:
        raise InputError(f"{checkpoint}: of another model than {settings.name}, which cannot start from it")
    same = theirs.tuning == settings.tuning
    if not same and METHODS[theirs.tuning.method].add is not add_nothing:
        raise InputError(f"{checkpoint}: {theirs.tuning.method} adds parts that {settings.name} has not")
    if same:
        tune(model, settings.tuning, tasks)
    named = dict(model.named_parameters())
    first = _tasks(theirs)[0]
    stored = {name if name in named else _moved(name, first, tasks[0]): tensor for name, tensor in stored.items()}
    if odd := sorted(stored.keys() - named.keys()):
        raise InputError(f"{checkpoint}: does not fit {settings.name}, the first parameter amiss is {odd[0]}")
    with torch.no_grad():
        for name, tensor in stored.items():
            named[name].copy_(tensor)
    model.pretrained |= stored.keys()
    if not same:
        tune(model, settings.tuning, tasks)


def _tasks(settings: ExperimentSettings) -> list[str]:
    return list(TASKS if settings.training is None else settings.training.tasks)


def _moved(name: str, task: str, other: str) -> str:
    """The name of a part that all tasks share, and so has the first one's, where that is another."""
    return ".".join(other if part == task else part for part in name.split("."))
