"""Tokenizers, and the tokens and embeddings that VL-T5 and VL-BART add to them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlret.files import InputError, read_json
from vlret.settings import ExperimentSettings

# `<extra_id_k>` marks a span of text, `<vis_extra_id_k>` the k-th object of an image.
EXTRA = 100
CLIP_POSITIONS = 77  # the default of open_clip_config.json
UNBOUNDED = 10**9


def tokenizer_of(settings: ExperimentSettings, weights: Mapping[str, Path]):
    """The tokenizer published with a model's text weights; None for an image model.

    Its `model_max_length` is the number of positions in the weights, overriding the published value. With order
    embeddings, it has the tokens `<extra_id_k>` and `<vis_extra_id_k>` (`add_extra_tokens`).
    """
    if settings.model.kind == "image":
        return None
    folder = weights.get("text")
    names = ("tokenizer_config.json", "tokenizer.json", "spiece.model", "vocab.json", "vocab.txt")
    if folder is None or not any((Path(folder) / name).is_file() for name in names):
        raise InputError(f"{folder}: no tokenizer here; check text.weights of the model in config/models.yaml")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = [positions_of(Path(weights[name])) for name in ("text", "passage") if name in weights]
    tokenizer.model_max_length = min((positions for positions in read if positions), default=UNBOUNDED)
    if settings.model.kind == "joint" and settings.model.visual.order:
        add_extra_tokens(tokenizer, folder)
    return tokenizer


def positions_of(folder: Path) -> int | None:
    """The number of text positions of the weights in a folder; None if unlimited, as in T5."""
    if (folder / "open_clip_config.json").is_file():
        sizes = read_json(folder / "open_clip_config.json").get("model_cfg", {})
        return sizes.get("text_cfg", {}).get("context_length", CLIP_POSITIONS)
    path = folder / "config.json"
    return read_json(path).get("max_position_embeddings") if path.is_file() else None


def add_extra_tokens(tokenizer, folder: Path) -> None:
    """Add `<extra_id_99>`, ..., `<extra_id_0>` if absent, then `<vis_extra_id_99>`, ..., `<vis_extra_id_0>`.

    So `<vis_extra_id_k>` is token `len(tokenizer) - 1 - k`, the embedding row of object `k`. Spaces around the tokens
    are stripped.

    Raises
    ------
    InputError
        If such tokens exist with other ids.

    Source: Cho et al. 2021, "Unifying Vision-and-Language Tasks via Text Generation", section 3;
    github.com/j-min/VL-T5, `VLT5Tokenizer`, `VLBartTokenizer`.
    """
    from transformers import AddedToken

    known = tokenizer.get_vocab()
    names = [f"<{kind}extra_id_{k}>" for kind in ("", "vis_") for k in reversed(range(EXTRA))]
    new = [AddedToken(name, lstrip=True, rstrip=True, normalized=False) for name in names if name not in known]
    tokenizer.add_tokens(new, special_tokens=True)
    last = len(tokenizer) - 1
    for position, name in enumerate(reversed(names)):
        if (found := tokenizer.convert_tokens_to_ids(name)) != last - position:
            raise InputError(f"{folder}: the tokenizer's id of {name} is {found}, expected {last - position}")


def extend(table: Tensor, rows: int, deviation: float, seed: int) -> Tensor:
    """A token embedding `[tokens, dim]`, extended to `rows` if shorter by rows drawn from N(0, deviation²).

    As in VL-T5 (transformers 4.2, `resize_token_embeddings`, with the model's own initialisation).
    """
    if rows <= len(table):
        return table
    generator = torch.Generator().manual_seed(seed)
    new = torch.randn(rows - len(table), table.shape[1], generator=generator) * deviation
    return torch.cat([table, new.to(table.dtype)])
