"""The value types shared by all settings, and their base class."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

PART = r"[a-z0-9][a-z0-9+-]*"
EXPERIMENT = rf"{PART}_{PART}_{PART}_{PART}"
TABLE = r"[a-z0-9][a-z0-9_-]*"
TASK = r"[a-z][a-z0-9_]*"
SPLITS = ("train", "validation", "test")
PARTS = ("model", "tuning", "prefix", "pooling")


def _number(value: object) -> object:
    """Reject `5e-4`: YAML 1.1 reads a number without a dot as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        raise ValueError(f"{value!r} is text in YAML: write {float(value):.1e}")
    return value


def without_braces(path: str) -> str:
    """A user's path; `ValueError` if Snakemake cannot request it."""
    if {"{", "}"} & {*path}:
        raise ValueError(f"{path!r} contains braces, which Snakemake reads as wildcards; rename it")
    return path


Part = Annotated[StrictStr, Field(pattern=f"^{PART}$")]
ExperimentName = Annotated[StrictStr, Field(pattern=f"^{EXPERIMENT}$")]
Positive = Annotated[StrictInt, Field(ge=1)]
Count = Annotated[StrictInt, Field(ge=0)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_number)]
OwnPath = Annotated[StrictStr, Field(min_length=1), AfterValidator(without_braces)]
AboveZero = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
Share = Annotated[Real, Field(gt=0, lt=1)]
Pair = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Parts = Annotated[
    list[Part],
    Field(min_length=1),
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=Part | list[Part]
    ),
]
Matching = Literal["meerqat", "whole-words"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Metric = Annotated[StrictStr, Field(pattern="^(mrr|precision|hit_rate)@[1-9][0-9]*$")]
Miner = Annotated[StrictStr, Field(pattern=rf"^(bm25|article|random|same-type|(image|model)\.{EXPERIMENT})$")]
Miners = Annotated[dict[Miner, AboveZero], Field(description="miner → its share of the negatives")]


class Settings(BaseModel):
    """Base class: fields are frozen, unknown ones rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def brief(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain values; these identify a result."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def given(self) -> dict[str, Any]:
        """The fields that were set explicitly, by name, in class order."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def over(self, low: Self) -> Self:
        """`low`, overridden by the fields set explicitly here."""
        return type(low)(**{**low.given(), **self.given()})
