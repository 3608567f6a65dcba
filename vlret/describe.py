"""`vlret model describe`: the parts of an experiment's model, how many parameters they have, what is trained."""

from collections.abc import Mapping
from pathlib import Path

from vlret.encoders.biencoder import BiEncoder
from vlret.experiment import Experiment, kind_of, load_config, read_weights, settings, trained
from vlret.files import InputError
from vlret.tuning.methods import build
from vlret.validation import validate

COLUMNS = ("part", "parameters", "trained", "added")


def describe(experiment: str, configfile: list[Path], models: Path, schema: Path) -> None:
    """Print the parts of an experiment, its parameters (total, trained, added) and the size of its checkpoint.

    Raises
    ------
    InputError
        If the experiment is not in the grid, has no encoder (BM25), or its published weights were not fetched yet.
    """
    config = load_config([models, *configfile])
    validate(config, [models, *configfile], schema)
    chosen = Experiment.parse(experiment)
    if chosen not in trained(config):
        raise InputError(f"{experiment}: not an experiment of this config's grid; `vlret grid` lists them")
    if kind_of(config, chosen) == "lexical":
        raise InputError(f"{experiment}: BM25 has no encoder to describe")
    values, entry = settings(config, chosen), config["models"][chosen.model]
    read = read_weights(config, chosen)
    for source, path in read.values():
        if not Path(path).exists():
            made = Path(source).is_relative_to("results")
            how = f"fetch it with `snakemake {source}`" if made else "docs/experiments.md says where it comes from"
            raise InputError(f"{path}: not there yet; {how}")
    weights = {name: Path(path) for name, (_, path) in read.items()}
    width = config["backbones"][entry["backbone"]]["dim"] if "backbone" in entry else None
    model = build(values, weights, width)
    print("\n".join([experiment, *parts(values), "", *layout(count(model)), "", checkpoint_line(model, weights)]))


def parts(values: Mapping) -> list[str]:
    """What an experiment is, a line a part, from its settings."""
    model = values["model"]
    named = {
        "text": model.get("text") and f"{model['text']['architecture']}, separator {model['text']['separator']!r}",
        "image": model.get("backbone") and f"{model['backbone']}, {_options(model['visual'])}",
        "prefix": repr(values["prefix"]),
        "pooling": values["pooling"],
        "head": _options(model.get("head", {})) or "normalise True",
        "sharing": model.get("sharing", "everything"),
        "tuning": _options(values["tuning"]).removeprefix("method "),
    }
    return [f"  {name:<8} {said}" for name, said in named.items() if said]


def _options(mapping: Mapping) -> str:
    return ", ".join(f"{name} {value}" for name, value in mapping.items())


def count(model: BiEncoder) -> dict[str, list[int]]:
    """Parameters, trained ones and added ones (those that no published weights hold), by part of the model."""
    counts: dict[str, list[int]] = {}
    table = getattr(model.question.encoder, "token_embedding", None)
    for name, parameter in model.named_parameters():
        row = counts.setdefault(_part(name, table, name in model.pretrained), [0, 0, 0])
        row[0] += parameter.numel()
        row[1] += parameter.numel() * parameter.requires_grad
        row[2] += parameter.numel() * (name not in model.pretrained)
    counts["total"] = [sum(column) for column in zip(*counts.values(), strict=True)] if counts else [0, 0, 0]
    return counts


def _part(name: str, table: str | None, published: bool) -> str:
    side, part = name.split(".", 1)
    part = part.removeprefix("encoder.")
    if part.startswith("projection."):
        return f"{side}: projection"
    if "visual_embedding." in part:
        return f"{side}: visual embedding"
    if part == f"{table}.weight":
        return f"{side}: token embedding"
    if not published:
        return f"{side}: added by tuning"
    return f"{side}: decoder" if part.startswith("decoder.") else f"{side}: layers"


def layout(counts: Mapping[str, list[int]]) -> list[str]:
    """The counts as lines of a table, the total with the share that is trained."""
    rows = [(part, *(f"{number:,}" for number in numbers)) for part, numbers in counts.items()]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    lines = []
    for first, *numbers in (COLUMNS, *rows):
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    total, trained, _ = counts["total"]
    return [*lines, f"{100 * trained / total:.2f} % of the parameters are trained" if total else "nothing to train"]


def checkpoint_line(model: BiEncoder, weights: Mapping[str, Path]) -> str:
    """How large the experiment's checkpoint is, and what is read beside it."""
    own = model.own_weights().values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in own)
    beside = f"; the rest is read from {', '.join(map(str, weights.values()))}" if weights else ""
    return f"checkpoint: {size / 1e6:.2f} MB in {len(own)} tensors{beside}"
