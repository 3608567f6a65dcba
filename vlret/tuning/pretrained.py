"""Checkpoints of our own: a bi-encoder saved and loaded by its folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.checkpoints import read_checkpoint, save_checkpoint
from vlret.settings import Checkpoint
from vlret.tuning.methods import build


def save_pretrained(
    model: BiEncoder, settings: Checkpoint, folder: Path, ready: Callable[[], None] | None = None
) -> None:
    """Write a folder: in `model.safetensors` what was trained or was never published, in `config.json` the settings.

    Parameters
    ----------
    ready
        Called before the folder gets its name; an exception keeps it from it.
    """
    save_checkpoint(folder, model.own_weights(), settings, ready)


def from_pretrained(folder: Path, weights: Mapping[str, Path]) -> tuple[BiEncoder, Checkpoint]:
    """A bi-encoder that `save_pretrained` wrote, ready to encode, and the settings of its experiment.

    `model.encode("question", inputs)` gives vectors; `vlret.encoders.vocabulary.tokenizer_of(settings, weights)` is
    the tokenizer of the inputs.

    Parameters
    ----------
    weights
        The published weights that it was trained from, as `vlret.encoders.assemble.assemble` takes them.

    Raises
    ------
    InputError
        If the folder or the published weights are missing, damaged or do not fit each other.
    """
    stored, settings = read_checkpoint(folder)
    model = build(settings, weights, settings.feature_dim)
    model.restore(stored, folder)
    return model.eval(), settings
