"""Models: backbones of images, encoders of text, and both in one."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StrictBool, StrictStr, model_validator

from vlret.settings.base import OwnPath, Pair, Part, Positive, Settings
from vlret.settings.sources import Weights


class Backbone(Settings):
    """A frozen image model; each family is a subclass and a module with a `backbone(weights, **options)`."""

    MODULE: ClassVar[str]
    dim: Positive
    """Numbers a region."""
    weights: Weights

    def options(self) -> dict[str, Any]:
        """What the module's `backbone` takes beside the weights."""
        return self.model_dump(exclude={"family", "dim", "weights"}, exclude_none=True)


class EffNet(Backbone):
    """EfficientNet-Lite0."""

    MODULE = "vlret.features.effnet"
    family: Literal["effnet"]


class FasterRCNN(Backbone):
    """The detector of Anderson et al. (2018), regions as in VL-T5."""

    MODULE = "vlret.features.frcnn"
    family: Literal["frcnn"]
    regions: Pair | None = None
    """Fewest and most regions of an image; as published 36 and 36."""


class CLIPVision(Backbone):
    """The vision tower of any CLIP of open_clip."""

    MODULE = "vlret.features.clip"
    family: Literal["clip"]
    output: Literal["grid", "joint"]
    """The last grid of features or patches, or the vector that is compared with texts."""
    resize: Literal["shortest", "squash"] | None = None
    """To a square: the middle of the image, or the whole, its aspect lost; without it, as it was trained."""
    architecture: StrictStr | None = None
    """open_clip's name of it, where `weights` is a file and not a folder as open_clip publishes one."""


class TimmModel(Backbone):
    """Any model of timm."""

    MODULE = "vlret.features.timm_model"
    family: Literal["timm"]
    output: Literal["grid", "pooled"]
    """The last grid of features or patches, or one vector."""
    resize: Literal["shortest", "squash"] | None = None
    """As of `clip`."""


AnyBackbone = Annotated[EffNet | FasterRCNN | CLIPVision | TimmModel, Field(discriminator="family")]


class JointWeights(Settings):
    """Published weights of a joint encoder, in the place of the text encoder's."""

    layout: Literal["vlt5", "vlbart", "cvlp"]
    package: StrictStr | None = None
    path: OwnPath | None = None
    fingerprint: StrictStr | None = None


class Sizes(Settings):
    """What the weights of an encoder of text have, as far as experiments could ask for more; none where not known."""

    layers: Positive | None = None
    """Of the encoder; poolings take the last of them."""
    positions: Positive | None = None
    """Tokens of a text; T5 has them for any number."""
    width: Positive | None = None
    """Of the hidden states."""


class Text(Settings):
    """An encoder of text."""

    architecture: Literal["bert", "t5", "bart", "clip"]
    layout: Literal["bert", "t5", "bart", "dpr", "sentence-t5"] | None = None
    """How its files name things, where not as the architecture's do."""
    separator: StrictStr
    """What stands between a passage's title and text."""
    weights: Weights | None = None
    passage: Weights | None = None
    """Weights of a second encoder, that of passages."""
    joint: JointWeights | None = None
    sizes: Sizes = Sizes()
    """By which mistakes are found before there are weights, which must then have these; nothing depends on them."""

    @model_validator(mode="after")
    def _limiting(self) -> Self:
        without = {"t5": ["positions"], "clip": ["layers", "positions", "width"]}.get(self.architecture, ())
        if odd := [name for name in without if getattr(self.sizes, name) is not None]:
            raise ValueError(f"sizes.{odd[0]} limit no {self.architecture}; leave them out")
        return self


class Visual(Settings):
    """How an image's features become visual tokens."""

    grid: Pair | None = None
    """Rows and columns of the backbone's grid."""
    tokens: Pair | None = None
    """Rows and columns of the visual tokens that the grid is max-pooled to."""
    norms: Literal["each", "sum", "none"] = "each"
    """One for each branch, one over the sum, none."""
    order: StrictBool = False
    """Whether there are order embeddings."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.grid is None) != (self.tokens is None):
            raise ValueError("grid and tokens are given together")
        if self.grid and any(wanted > there for there, wanted in zip(self.grid, self.tokens, strict=True)):
            raise ValueError(
                f"tokens {self.tokens} are more than the cells of grid {self.grid}; they are pooled, not made"
            )
        return self


class Head(Settings):
    """What follows the pooling."""

    projection: Positive | None = None
    """The width of a projection."""
    normalise: StrictBool = True
    """Whether vectors are brought to length 1."""


class Lexical(Settings):
    """BM25."""

    kind: Literal["lexical"]


class ImageModel(Settings):
    """An image backbone alone."""

    kind: Literal["image"]
    backbone: StrictStr
    visual: Visual


class TextModel(Settings):
    """An encoder of text."""

    kind: Literal["text"]
    text: Text
    head: Head = Head()
    sharing: Literal["everything", "nothing", "visual", "token", "visual+token"] | None = None
    """What the encoders of questions and passages share: everything, or nothing where both have weights."""
    pretraining: Part | None = None
    """A name of `training.pretraining`: the zero-shot experiment is this model pre-trained so, and all others start
    from that."""


class JointModel(TextModel):
    """An encoder of text and visual tokens in one stack."""

    kind: Literal["joint"]
    backbone: StrictStr
    visual: Visual


class DualModel(Settings):
    """CLIP: questions by their image, articles by their title, in one space."""

    kind: Literal["dual"]
    backbone: StrictStr
    visual: Visual
    text: Text


Model = Annotated[Lexical | ImageModel | TextModel | JointModel | DualModel, Field(discriminator="kind")]
Encoder = Annotated[ImageModel | TextModel | JointModel | DualModel, Field(discriminator="kind")]
