"""Tuning methods, a class each; `vlret.tuning.methods` says what each does."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Union, get_args

from pydantic import Field, StrictBool, create_model, model_validator

from vlret.settings.base import AboveZero, Part, Positive, Real, Settings


class Tuning(Settings):
    """What of an encoder is trained, and what is added to it. A method that needs images sets `KINDS`."""

    ADDS: ClassVar[bool] = False
    KINDS: ClassVar[tuple[str, ...]] = ("text", "joint")


class ZeroShot(Tuning):
    """Nothing is trained."""

    KINDS = ("lexical", "image", "dual", "text", "joint")
    method: Literal["zs"]


class Full(Tuning):
    """Everything is trained."""

    method: Literal["full"]


class VisualOnly(Tuning):
    """The visual embedding is trained."""

    KINDS = ("joint",)
    method: Literal["visual"]


class _WithVisual(Tuning):
    visual: StrictBool = True
    """Whether the visual embedding is trained (VL-Adapter always does; cvlp where asked)."""


class BitFit(_WithVisual):
    """Biases are trained."""

    method: Literal["bitfit"]


class Projection(_WithVisual):
    """The projection after the pooling is trained."""

    method: Literal["projection"]


class Prompt(_WithVisual):
    """Soft prompts in front of the text."""

    ADDS = True
    method: Literal["prompt"]
    tokens: Positive = 40
    hidden: Positive = 800
    sharing: Literal["single", "multiple"] = "single"
    """One part for all tasks, or one a task."""


class Adapter(_WithVisual):
    """A bottleneck after every sublayer."""

    ADDS = True
    method: Literal["adapter"]
    reduction_factor: Positive = 8
    """The encoder's width over that of the bottleneck."""
    sharing: Literal["single", "multiple", "down", "up"] = "single"
    """One part for all tasks, or one a task; `down` and `up` share that projection and have the other once a task."""
    norms: Literal["none", "pre", "post", "both"] = "none"
    """Around the bottleneck."""
    cross_attention: StrictBool = False
    """Whether a decoder has them there, too."""
    unfreeze_layer_norms: StrictBool = True
    """Whether the norms of the backbone are trained."""


class AdapterProjection(Adapter):
    """Adapters, and the projection after the pooling."""

    method: Literal["adapter+projection"]


class Compacter(Adapter):
    """Adapters of hyper-complex projections."""

    method: Literal["compacter"]
    division: Positive = 2
    """How many Kronecker products are added up."""
    rule: Literal["own", "shared"] = "own"
    """Of each projection, or one for all."""
    rank: Positive | None = None
    """Of their larger matrices; none for whole ones."""


class LowRankAdapter(Adapter):
    """Adapters of low rank."""

    method: Literal["lradapter"]
    rank: Positive = 1


class HyperFormer(_WithVisual):
    """Adapters that a network makes."""

    ADDS = True
    method: Literal["hyperformer"]
    kind: Literal["unique", "one"] = "unique"
    """Generators for each kind of sublayer, or one pair for all."""
    reduction_factor: Positive = 8
    task_embedding: Positive = 512
    hidden: Positive = 128
    projected: Positive = 8
    """The width of what generators take."""
    unfreeze_layer_norms: StrictBool = True
    """Whether the norms of the backbone are trained."""


class LoRA(_WithVisual):
    """Low-rank updates of the attention's weights."""

    ADDS = True
    method: Literal["lora"]
    rank: Positive = 8
    alpha: AboveZero = 32.0
    """What is added is scaled by alpha / rank."""
    dropout: Annotated[Real, Field(ge=0, lt=1)] = 0.1
    bias: Literal["none", "all"] = "all"
    """Which biases of the backbone are trained."""
    sharing: Literal["single", "multiple"] = "single"
    """One part for all tasks, or one a task."""


class IA3(_WithVisual):
    """Vectors that scale keys, values and the feed-forward layers."""

    ADDS = True
    method: Literal["ia3"]
    sharing: Literal["single", "multiple"] = "single"
    """One part for all tasks, or one a task."""


METHODS: tuple[type[Tuning], ...] = (
    ZeroShot,
    Full,
    VisualOnly,
    BitFit,
    Projection,
    Prompt,
    Adapter,
    AdapterProjection,
    Compacter,
    LowRankAdapter,
    HyperFormer,
    LoRA,
    IA3,
)
TUNING: dict[str, type[Tuning]] = {get_args(cls.model_fields["method"].annotation)[0]: cls for cls in METHODS}
AnyTuning = Annotated[Union[METHODS], Field(discriminator="method")]  # noqa: UP007 (a tuple of classes)


def _named_methods(value: object) -> object:
    """The entries of the config's `tuning` with the method that each is of."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: {"method": name, **entry} if name in TUNING and isinstance(entry, Mapping) else entry
        for name, entry in value.items()
    }


# A field for each method, under its name, and the variants.
Tunings = create_model(
    "Tunings",
    __base__=Settings,
    __doc__="What of an encoder is trained, by tuning method.",
    __validators__={"named": model_validator(mode="before")(_named_methods)},
    variants=(dict[Part, AnyTuning], Field({}, description="further names of a method, some of whose settings differ")),
    **{name: (cls, cls(method=name)) for name, cls in TUNING.items()},
)
