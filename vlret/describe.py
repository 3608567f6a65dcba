"""`vlret model describe`: the parts of an experiment's model, their parameter counts, what is trained."""

from collections.abc import Mapping
from pathlib import Path

from vlret.asked import Asked
from vlret.encoders.biencoder import BiEncoder
from vlret.experiment import kind_of, settings
from vlret.files import InputError
from vlret.settings import ExperimentSettings, Settings
from vlret.tuning.methods import build

PARTS = {"head": "projection", "visual": "visual embedding", "added": "added by tuning"}
COLUMNS = ("part", "parameters", "trained", "added")


def describe(asked: Asked, experiment: str) -> None:
    """Print the parts of an experiment, its parameters (total, trained, added) and the size of its checkpoint.

    The parts are always printed; counting parameters requires the published weights.

    Raises
    ------
    InputError
        If the experiment is not in the grid, has no encoder (BM25), or its published weights were not fetched yet.
    """
    layout = asked.layout()
    config, chosen = layout.config, layout.experiment(experiment)
    if kind_of(config, chosen) == "lexical":
        raise InputError(f"{experiment}: BM25 has no encoder to describe")
    values = settings(config, chosen)
    print("\n".join([experiment, *parts(values), ""]))
    weights = layout.weights(chosen)
    for file in weights.values():
        if not Path(file.read()).exists():
            how = (
                "docs/experiments.md says where it comes from"
                if file.rule == "by_hand"
                else f"fetch it with `snakemake {file}`"
            )
            raise InputError(f"{file.read()}: missing; {how}")
    found = {name: Path(file.read()) for name, file in weights.items()}
    backbone = getattr(values.model, "backbone", None)
    model = build(values, found, config.backbones[backbone].dim if backbone else None)
    print("\n".join([*listing(count(model)), "", checkpoint_line(model, found)]))


def parts(values: ExperimentSettings) -> list[str]:
    """The parts of an experiment from its settings, one line each."""
    model, training = values.model, values.training
    text, head = getattr(model, "text", None), getattr(model, "head", None)
    named = {
        "text": text and f"{text.architecture}, separator {text.separator!r}",
        "image": hasattr(model, "backbone") and f"{model.backbone}, {_options(model.visual)}",
        "prefix": repr(values.prefix),
        "pooling": values.pooling,
        "head": head and _options(head),
        "sharing": getattr(model, "sharing", None) or "everything",
        "tuning": _options(values.tuning).removeprefix("method "),
        "training": training
        and f"{training.steps} steps of {training.batch_size} questions, learning rate {training.learning_rate:g}",
    }
    return [f"  {name:<8} {text}" for name, text in named.items() if text]


def _options(values: Settings) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.model_dump(exclude_none=True).items())


def count(model: BiEncoder) -> dict[str, list[int]]:
    """Count all, trained and added parameters (added: not in the published weights), by part of the model."""
    counts: dict[str, list[int]] = {}
    table = getattr(model.question.encoder, "token_embedding", None)
    for name, parameter in model.named_parameters():
        row = counts.setdefault(_part(name, table, model.part_of(name)), [0, 0, 0])
        row[0] += parameter.numel()
        row[1] += parameter.numel() * parameter.requires_grad
        row[2] += parameter.numel() * (name not in model.pretrained)
    counts["total"] = [sum(column) for column in zip(*counts.values(), strict=True)] if counts else [0, 0, 0]
    return counts


def _part(name: str, table: str | None, part: str) -> str:
    side, inside = name.split(".", 1)
    inside = inside.removeprefix("encoder.")
    if inside == f"{table}.weight":
        return f"{side}: token embedding"
    if part == "encoder":
        return f"{side}: decoder" if inside.startswith("decoder.") else f"{side}: layers"
    return f"{side}: {PARTS[part]}"


def listing(counts: Mapping[str, list[int]]) -> list[str]:
    """The counts as lines of a table, then the share of parameters that is trained."""
    rows = [(part, *(f"{number:,}" for number in numbers)) for part, numbers in counts.items()]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    lines = []
    for first, *numbers in (COLUMNS, *rows):
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    total, trained, _ = counts["total"]
    return [*lines, f"{100 * trained / total:.2f} % of the parameters are trained" if total else "nothing to train"]


def checkpoint_line(model: BiEncoder, weights: Mapping[str, Path]) -> str:
    """The size of the experiment's checkpoint, and which other weights are read."""
    own = model.own_weights().values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in own)
    beside = f"; the rest is read from {', '.join(map(str, weights.values()))}" if weights else ""
    return f"checkpoint: {size / 1e6:.2f} MB in {len(own)} tensors{beside}"
