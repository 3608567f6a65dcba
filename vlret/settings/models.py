"""Models: image backbones, text encoders, and joint encoders."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StrictBool, StrictStr, model_validator

from vlret.settings.base import OwnPath, Pair, Part, Positive, Settings
from vlret.settings.sources import Weights


class Backbone(Settings):
    """A frozen image model; each family has a subclass and a module with `backbone(weights, **options)`."""

    MODULE: ClassVar[str]
    dim: Positive
    """Dimension of a region's features."""
    weights: Weights

    def options(self) -> dict[str, Any]:
        """The options of the module's `backbone`, besides the weights."""
        return self.model_dump(exclude={"family", "dim", "weights"}, exclude_none=True)


class EffNet(Backbone):
    """EfficientNet-Lite0."""

    MODULE = "vlret.features.effnet"
    family: Literal["effnet"]


class FasterRCNN(Backbone):
    """The detector of Anderson et al. (2018), with regions as in VL-T5."""

    MODULE = "vlret.features.frcnn"
    family: Literal["frcnn"]
    regions: Pair | None = None
    """Minimum and maximum regions per image; 36 and 36 by default."""


class CLIPVision(Backbone):
    """The vision tower of any open_clip model."""

    MODULE = "vlret.features.clip"
    family: Literal["clip"]
    output: Literal["grid", "joint"]
    """The last grid of features or patches, or the vector in the joint image-text space."""
    resize: Literal["shortest", "squash"] | None = None
    """To a square: shortest crops the centre, squash ignores the aspect ratio; none: as in training."""
    architecture: StrictStr | None = None
    """open_clip's model name, if `weights` is a file rather than an open_clip folder."""


class TimmModel(Backbone):
    """Any timm model."""

    MODULE = "vlret.features.timm_model"
    family: Literal["timm"]
    output: Literal["grid", "pooled"]
    """The last grid of features or patches, or one pooled vector."""
    resize: Literal["shortest", "squash"] | None = None
    """As for `clip`."""


AnyBackbone = Annotated[EffNet | FasterRCNN | CLIPVision | TimmModel, Field(discriminator="family")]


class JointWeights(Settings):
    """Published weights of a joint encoder, instead of the text encoder's."""

    layout: Literal["vlt5", "vlbart", "cvlp"]
    package: StrictStr | None = None
    path: OwnPath | None = None
    fingerprint: StrictStr | None = None


class Sizes(Settings):
    """Sizes of a text encoder that limit what experiments may use; none if unknown."""

    layers: Positive | None = None
    """Layers of the encoder; poolings use the last ones."""
    positions: Positive | None = None
    """Maximum tokens of a text; T5 has no limit."""
    width: Positive | None = None
    """Dimension of the hidden states."""


class Text(Settings):
    """A text encoder."""

    architecture: Literal["bert", "t5", "bart", "clip"]
    layout: Literal["bert", "t5", "bart", "dpr", "sentence-t5"] | None = None
    """Layout of the weights, if not the architecture's own."""
    separator: StrictStr
    """Text between a passage's title and its body."""
    weights: Weights | None = None
    passage: Weights | None = None
    """Weights of a separate passage encoder."""
    joint: JointWeights | None = None
    sizes: Sizes = Sizes()
    """Used to find mistakes before weights are there, and checked against them; no result depends on these."""

    @model_validator(mode="after")
    def _limiting(self) -> Self:
        without = {"t5": ["positions"], "clip": ["layers", "positions", "width"]}.get(self.architecture, ())
        if odd := [name for name in without if getattr(self.sizes, name) is not None]:
            raise ValueError(f"sizes.{odd[0]} does not apply to {self.architecture}; remove it")
        return self


class Visual(Settings):
    """How image features become visual tokens."""

    grid: Pair | None = None
    """Rows and columns of the backbone's feature grid."""
    tokens: Pair | None = None
    """Rows and columns of visual tokens, max-pooled from the grid."""
    norms: Literal["each", "sum", "none"] = "each"
    """Norms: one per branch, one on the sum, or none."""
    order: StrictBool = False
    """Whether to add order embeddings."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.grid is None) != (self.tokens is None):
            raise ValueError("set both grid and tokens, or neither")
        if self.grid and any(wanted > there for there, wanted in zip(self.grid, self.tokens, strict=True)):
            raise ValueError(f"tokens {self.tokens} exceed grid {self.grid}, from which they are pooled; set fewer")
        return self


class Head(Settings):
    """The layers after pooling."""

    projection: Positive | None = None
    """Output dimension of a projection; none: no projection."""
    normalise: StrictBool = True
    """Whether to L2-normalise vectors."""


class Lexical(Settings):
    """BM25."""

    kind: Literal["lexical"]


class ImageModel(Settings):
    """An image backbone alone."""

    kind: Literal["image"]
    backbone: StrictStr
    visual: Visual


class TextModel(Settings):
    """A text encoder."""

    kind: Literal["text"]
    text: Text
    head: Head = Head()
    sharing: Literal["everything", "nothing", "visual", "token", "visual+token"] | None = None
    """What the question and passage encoders share; default: everything, or nothing if `text.passage` is set."""
    pretraining: Part | None = None
    """A name in `training.pretraining`: the zero-shot experiment is the pre-trained model, all others start from
    it."""


class JointModel(TextModel):
    """One encoder for text and visual tokens."""

    kind: Literal["joint"]
    backbone: StrictStr
    visual: Visual


class DualModel(Settings):
    """CLIP: question images and article titles in one space."""

    kind: Literal["dual"]
    backbone: StrictStr
    visual: Visual
    text: Text


Model = Annotated[Lexical | ImageModel | TextModel | JointModel | DualModel, Field(discriminator="kind")]
Encoder = Annotated[ImageModel | TextModel | JointModel | DualModel, Field(discriminator="kind")]
