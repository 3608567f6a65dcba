"""Sizes of text encoders, as stated in the config or stored with the weights, and settings that exceed them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vlret.experiment import Experiment, grid, kind_of, trained, tuned_as, tuning_of
from vlret.files import InputError, read_json
from vlret.settings import TUNING, Config, Sizes

# Architecture → the names of its sizes in `config.json`.
FIELDS = {
    "bert": {"layers": "num_hidden_layers", "positions": "max_position_embeddings", "width": "hidden_size"},
    "bart": {"layers": "encoder_layers", "positions": "max_position_embeddings", "width": "d_model"},
    "t5": {"layers": "num_layers", "width": "d_model"},
}


def sizes_of(folder: Path, architecture: str) -> Sizes:
    """The sizes in a folder's `config.json`; `InputError` if they are not positive integers."""
    path, stored = Path(folder) / "config.json", read_json(Path(folder) / "config.json")
    found = {name: stored[field] for name, field in FIELDS[architecture].items() if stored.get(field) is not None}
    if odd := [name for name, value in found.items() if type(value) is not int or value < 1]:
        raise InputError(f"{path}: {FIELDS[architecture][odd[0]]}: {found[odd[0]]!r}, expected a number above 0")
    return Sizes(**found)


def check_sizes(model: str, architecture: str, stated: Sizes, folders: Iterable[Path]) -> None:
    """Raise an `InputError` if the weights have other sizes than the config states for the model."""
    for folder in folders:
        found = sizes_of(folder, architecture)
        for name, value in stated.brief().items():
            if value != (there := getattr(found, name)):
                path = Path(folder) / "config.json"
                raise InputError(f"models.{model}.text.sizes.{name}: {value}, but {path} has {there}; correct it")


def stated_sizes(config: Config) -> dict[str, Sizes]:
    """The sizes stated in the config, by model."""
    texts = {name: getattr(model, "text", None) for name, model in config.models.items()}
    return {name: text.sizes for name, text in texts.items() if text}


def too_large(config: Config, sizes: Mapping[str, Sizes]) -> str | None:
    """The first setting that exceeds the sizes of its encoder, given by model; None if there is none."""
    for experiment in grid(config):
        if experiment.model in sizes and (message := _deep(config, experiment, sizes[experiment.model])):
            return message
    for experiment in trained(config):
        if message := _long(config, experiment, sizes.get(experiment.model, Sizes())):
            return message
        width = getattr(sizes.get(experiment.model), "width", None)
        if width and (message := _wide(config, experiment, width)):
            return f"tuning.{message} (of {experiment.name})"
    return None


def _deep(config: Config, experiment: Experiment, sizes: Sizes) -> str | None:
    """A pooling over more layers than the encoder has."""
    match = re.fullmatch(r"(?:sum|concat)-last-(\d+)", experiment.pooling)
    if not match or sizes.layers is None or int(match[1]) <= sizes.layers:
        return None
    blocks = [all(getattr(experiment, part) in names for part, names in block) for block in config.grid.product]
    place = f"grid.product.{blocks.index(True)}.pooling" if any(blocks) else "grid.include"
    return (
        f"{place}: {experiment.name}: pooling {experiment.pooling} needs {match[1]} layers, but the encoder of "
        f"{experiment.model} has {sizes.layers}; use fewer"
    )


def _long(config: Config, experiment: Experiment, sizes: Sizes) -> str | None:
    """Texts with more tokens than positions; not for dual models, which only read short titles."""
    if sizes.positions is None or kind_of(config, experiment) == "dual":
        return None
    for key in ("question_tokens", "passage_tokens"):
        if (tokens := getattr(config.embedding, key)) > sizes.positions:
            return (
                f"embedding.{key}: {tokens} tokens, but the encoder of {experiment.model} has positions for "
                f"{sizes.positions}; set it to {sizes.positions} or less"
            )
    return None


def _wide(config: Config, experiment: Experiment, width: int) -> str | None:
    """A reduction factor above the encoder's width, a division that does not divide the widths, or too large a rank.

    LoRA's matrices are as wide as the encoder.
    """
    name = tuned_as(config, experiment)
    tuning = tuning_of(config, name)
    field = name if name in TUNING else f"variants.{name}"
    reduced = width // getattr(tuning, "reduction_factor", 1)
    if not reduced:
        return (
            f"{field}.reduction_factor: {tuning.reduction_factor} is more than {width}, the width of the encoder "
            f"of {experiment.model}"
        )
    division = getattr(tuning, "division", 1)
    if width % division or reduced % division:
        return (
            f"{field}.division: {division} does not divide {width} and {reduced}, the widths of the encoder of "
            f"{experiment.model} and of its adapters"
        )
    rank, most = getattr(tuning, "rank", None), reduced // division
    if rank and rank > most:
        return (
            f"{field}.rank: {rank} is more than {most}, the smaller side of the matrices, for the encoder of "
            f"{experiment.model}"
        )
    return None
