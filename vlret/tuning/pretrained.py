"""Save a bi-encoder to a checkpoint folder and load it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.checkpoints import read_checkpoint, save_checkpoint
from vlret.settings import Checkpoint
from vlret.tuning.methods import build


def save_pretrained(
    model: BiEncoder, settings: Checkpoint, folder: Path, ready: Callable[[], None] | None = None
) -> None:
    """Write a folder: trained and unpublished parameters in `model.safetensors`, the settings in `config.json`.

    Parameters
    ----------
    ready
        Called before the folder is renamed into place; an exception prevents that.
    """
    save_checkpoint(folder, model.own_weights(), settings, ready)


def from_pretrained(folder: Path, weights: Mapping[str, Path]) -> tuple[BiEncoder, Checkpoint]:
    """A bi-encoder saved by `save_pretrained`, ready to encode, and the settings of its experiment.

    `model.encode("question", inputs)` returns vectors; `vlret.encoders.vocabulary.tokenizer_of(settings, weights)`
    tokenizes the inputs.

    Parameters
    ----------
    weights
        The published weights it was trained from, as for `vlret.encoders.assemble.assemble`.

    Raises
    ------
    InputError
        If the folder or the published weights are missing, damaged or mismatched.
    """
    stored, settings = read_checkpoint(folder)
    model = build(settings, weights, settings.feature_dim)
    model.restore(stored, folder)
    return model.eval(), settings
