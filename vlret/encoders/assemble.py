"""Build a model entry of the config as an untuned bi-encoder."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from vlret.encoders.biencoder import BiEncoder, ImageEncoder, Tower
from vlret.encoders.joint import initialise
from vlret.encoders.published import ARCHITECTURES, empty_encoder, fill, layout_of
from vlret.encoders.visual import VisualEmbedding
from vlret.encoders.vocabulary import tokenizer_of
from vlret.files import InputError, read_json
from vlret.settings import Encoder, ExperimentSettings, JointModel, Visual


def assemble(settings: ExperimentSettings, weights: Mapping[str, Path], feature_dim: int | None) -> BiEncoder:
    """Build the untuned bi-encoder of a model entry from its published weights.

    Parameters
    ----------
    weights
        Name (see `weights_of`) -> path: `text`, a folder in Hugging Face's layout (`config.json`, the tokenizer,
        `model.safetensors` or `pytorch_model.bin`); `joint`, a published file with the whole joint encoder, read
        instead of the folder's weights; `passage`, a folder with a separate passage encoder.
    feature_dim
        The width of the cached features; None for a text model.

    Raises
    ------
    InputError
        If weights are missing, are not those the model names, or do not fit (`vlret.encoders.published.fill`).
    """
    model = settings.model
    names = weights_of(model)
    if wrong := sorted(names ^ weights.keys()):
        problem = "not used by the model" if wrong[0] in weights else "missing"
        raise InputError(f"weights {wrong[0]!r}: {problem}; the model needs {', '.join(sorted(names)) or 'none'}")
    if model.kind in ("image", "dual"):
        image = Tower(ImageEncoder(model.visual.grid, model.visual.tokens), settings.pooling)
        return BiEncoder(image) if model.kind == "image" else dual(image, weights["text"], settings.pooling)
    tower, pretrained = text_tower(settings, weights, "text", feature_dim)
    sharing = model.sharing or ("nothing" if "passage" in weights else "everything")
    if "passage" not in weights:
        return BiEncoder(tower, sharing, pretrained)
    if sharing == "everything":
        raise InputError("model.sharing: two encoders with separate weights cannot share everything")
    return BiEncoder(tower, sharing, pretrained, passage=text_tower(settings, weights, "passage", feature_dim)[0])


def dual(image: Tower, weights: Path, pooling: str) -> BiEncoder:
    """CLIP as a bi-encoder: cached image vectors of its joint space against texts."""
    from vlret.encoders.clip import load_clip_text

    text = Tower(load_clip_text(weights), pooling)
    pretrained = frozenset(name for name, _ in text.named_parameters())
    return BiEncoder(image, "nothing", pretrained, passage=text)


def weights_of(model: Encoder) -> set[str]:
    """The names of the published weights that a model entry needs."""
    text = getattr(model, "text", None)
    return ({"text"} if text else set()) | {name for name in ("joint", "passage") if getattr(text, name, None)}


def text_tower(
    settings: ExperimentSettings, weights: Mapping[str, Path], side: str, feature_dim: int | None
) -> tuple[Tower, frozenset[str]]:
    """One tower and the names of its published parameters; `side` is `text` or `passage`."""
    model, text = settings.model, settings.model.text
    visual = model.visual if isinstance(model, JointModel) else None
    layout = layout_of(text.layout or text.architecture)
    rows = len(tokenizer_of(settings, weights)) if visual and visual.order else None
    encoder = empty_encoder(weights[side], layout, settings.pooling == "decoder", rows)
    tower = Tower(encoder, settings.pooling, model.head.projection, model.head.normalise)
    pretrained = frozenset()
    if text.joint is None:
        field, default = ARCHITECTURES[layout.architecture].deviation
        deviation = read_json(Path(weights[side]) / "config.json").get(field, default)
        pretrained = fill(tower, weights[side], layout, deviation, settings.seed)
    if visual:
        encoder.encoder.visual_embedding = visual_embedding(encoder, feature_dim, visual)
    if text.joint:
        pretrained = fill(tower, weights["joint"], layout_of(text.joint.layout))
    return tower, pretrained


def visual_embedding(encoder: nn.Module, feature_dim: int, visual: Visual) -> VisualEmbedding:
    """The visual embedding that a model entry describes, for a text encoder."""
    pool = visual.grid and (visual.grid, visual.tokens)
    norm, norms, order = encoder.visual_norm, visual.norms, visual.order
    embedding = VisualEmbedding(feature_dim, encoder.dim, norm, norms, order, pool=pool)
    initialise(embedding, encoder.init_std)
    return embedding
