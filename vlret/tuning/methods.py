"""Tuning methods by name: what each adds to an encoder, and which existing parameters it trains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vlret.encoders.assemble import assemble
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.checkpoints import check_base, read_checkpoint, read_settings
from vlret.files import InputError
from vlret.settings import ExperimentSettings, Tuning
from vlret.tuning.adapters import add_adapters
from vlret.tuning.compacter import add_compacters, add_low_rank_adapters
from vlret.tuning.hyperformer import add_hyperformer
from vlret.tuning.lora import add_ia3, add_lora
from vlret.tuning.prompts import add_prompts

TASKS = ("viquae",)


def everything(tower: Tower) -> Iterator[nn.Parameter]:
    """All parameters, including the head."""
    return tower.parameters()


def visual_embedding(tower: Tower) -> Iterator[nn.Parameter]:
    """The visual embedding, without object order embeddings, which are part of the token embedding."""
    return (p for name, p in tower.named_parameters() if ".visual_embedding." in name)


def layer_norms(tower: Tower) -> Iterator[nn.Parameter]:
    """The norms of the stacks, including RMS norms, which the originals always freeze."""
    for name, module in tower.named_modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and ".visual_embedding." not in name:
            yield from module.parameters()


def biases(tower: Tower) -> Iterator[nn.Parameter]:
    """All biases; T5 has only relative attention biases."""
    named = tower.named_parameters()
    return (p for name, p in named if name.endswith((".bias", ".relative_attention_bias.weight")))


def head(tower: Tower) -> Iterator[nn.Parameter]:
    """The projection after the pooling; `InputError` if there is none."""
    if not list(tower.projection.parameters()):
        raise InputError("tuning projection: the model has no head to train; add `head: {projection: …}` to its entry")
    return tower.projection.parameters()


def add_nothing(encoder: nn.Module, settings: Tuning, tasks: list[str]) -> None:
    """Leave the encoder unchanged."""


@dataclass(frozen=True)
class Method:
    """`add` extends an encoder in place with trained parts; `trains` are the existing parts that are trained."""

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

# Parts that a setting makes trainable: setting, value, part.
OPTIONS = (("visual", True, visual_embedding), ("unfreeze_layer_norms", True, layer_norms), ("bias", "all", biases))


def tune(model: BiEncoder, settings: Tuning, tasks: Sequence[str] = TASKS) -> None:
    """Add a tuning method's parts to each tower, and set `requires_grad` on exactly what it trains.

    Parameters
    ----------
    settings
        The method's.
    tasks
        Names of the tasks for per-task parts; the first is active (see `vlret.encoders.tasks.activate`).

    Raises
    ------
    InputError
        If the settings do not fit the encoder.
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
    # An added part may wrap a published parameter, which renames it.
    model.pretrained = frozenset(name for name, p in named.items() if before.get(id(p)) in model.pretrained)


def build(settings: ExperimentSettings, weights: Mapping[str, Path], feature_dim: int | None) -> BiEncoder:
    """The bi-encoder of an experiment before training: pretrained, with its tuning method's parts, seeded.

    Per-task parts are built for each task of the training; the first is active until `vlret.encoders.tasks.activate`
    changes it. Parameters are those of `vlret.encoders.assemble.assemble`; `weights` may also have a `start`, the
    checkpoint of the experiment to start from (`start_from`), which must have been trained from the same weights.
    """
    torch.manual_seed(settings.seed)
    published = {name: path for name, path in weights.items() if name != "start"}
    model, tasks = assemble(settings, published, feature_dim), _tasks(settings)
    if "start" in weights:
        start_from(model, settings, tasks, weights["start"])
        check_base(weights["start"], read_settings(weights["start"]), published)
    else:
        tune(model, settings.tuning, tasks)
    return model


def start_from(model: BiEncoder, settings: ExperimentSettings, tasks: Sequence[str], checkpoint: Path) -> None:
    """Tune a model from the weights of another experiment, such as a pre-training.

    That experiment either added no parts, or has the same tuning, whose parts are then trained further; parts shared by
    all tasks carry over even if task names differ. Its weights are left out of this experiment's checkpoint unless
    trained here too.

    Raises
    ------
    InputError
        If the checkpoint is of another model, or has parts that this experiment lacks.
    """
    stored, theirs = read_checkpoint(checkpoint)
    if theirs.model != settings.model:
        raise InputError(f"{checkpoint}: its model differs from that of {settings.name}, which cannot start from it")
    same = theirs.tuning == settings.tuning
    if not same and METHODS[theirs.tuning.method].add is not add_nothing:
        raise InputError(f"{checkpoint}: {theirs.tuning.method} adds parts that {settings.name} lacks")
    if same:
        tune(model, settings.tuning, tasks)
    named = dict(model.named_parameters())
    first = _tasks(theirs)[0]
    stored = {name if name in named else _renamed(name, first, tasks[0]): tensor for name, tensor in stored.items()}
    if wrong := sorted(stored.keys() - named.keys()):
        raise InputError(f"{checkpoint}: does not fit {settings.name}; the first wrong parameter is {wrong[0]}")
    with torch.no_grad():
        for name, tensor in stored.items():
            named[name].copy_(tensor)
    model.pretrained |= stored.keys()
    if not same:
        tune(model, settings.tuning, tasks)


def _tasks(settings: ExperimentSettings) -> list[str]:
    return list(TASKS if settings.training is None else settings.training.tasks)


def _renamed(name: str, task: str, other: str) -> str:
    """The name of a shared part, which is named after the first task, with another first task."""
    return ".".join(other if part == task else part for part in name.split("."))
