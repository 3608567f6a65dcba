"""From a model's entry in the config to its bi-encoder, with nothing tuned."""

from pathlib import Path

from torch import nn

from vlret.encoders.biencoder import BiEncoder, ImageEncoder, Tower
from vlret.encoders.checkpoints import load_bert
from vlret.encoders.visual import VisualEmbedding

TEXT_ENCODERS = {"bert": load_bert}


def assemble(settings: dict, weights: Path | None, feature_dim: int | None) -> BiEncoder:
    """Build the bi-encoder of a model entry from its pretrained weights, with nothing tuned.

    Parameters
    ----------
    settings
        `vlret.experiment.settings` of the experiment.
    weights
        The folder of the text encoder's pretrained weights; None for an image model.
    feature_dim
        The width of the cached features; None for a text model.
    """
    model = settings["model"]
    if model["kind"] == "image":
        return BiEncoder(Tower(ImageEncoder(**model["visual"]), settings["pooling"]))
    encoder = TEXT_ENCODERS[model["text"]["architecture"]](weights)
    pretrained = frozenset(name for name, _ in encoder.named_parameters())
    if model["kind"] == "joint":
        encoder.encoder.visual_embedding = visual_embedding(encoder, feature_dim, model["visual"])
    head = model.get("head", {})
    return BiEncoder(Tower(encoder, settings["pooling"], **head), model.get("sharing", "everything"), pretrained)


def visual_embedding(encoder: nn.Module, feature_dim: int, visual: dict) -> VisualEmbedding:
    """The visual embedding that a model entry describes, for an encoder of text."""
    pool = (visual["grid"], visual["tokens"]) if "tokens" in visual else None
    norms, order = visual.get("norms", "each"), visual.get("order", False)
    return VisualEmbedding(feature_dim, encoder.dim, encoder.visual_norm, norms, order, pool=pool)
