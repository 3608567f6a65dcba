"""Save a bi-encoder to a checkpoint folder and load it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.checkpoints import check_base, read_checkpoint, save_checkpoint
from vlret.files import InputError
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
        The weights it was trained from, as for `vlret.tuning.methods.build`.

    Raises
    ------
    InputError
        If the folder or the weights are missing, damaged, mismatched, or not those it was trained from.
    """
    stored, settings = read_checkpoint(folder)
    if "start" in settings.weights and "start" not in weights:
        raise InputError(f"{folder}: was trained from another checkpoint; give it too, as weights 'start'")
    check_base(folder, settings, weights)
    model = build(settings, weights, settings.feature_dim)
    model.restore(stored, folder)
    return model.eval(), settings
