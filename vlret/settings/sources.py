"""Sources of data and weights: published, packaged, or local."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StrictInt, StrictStr, Tag, model_validator

from vlret.settings.base import Count, Matching, NotNegative, OwnPath, Part, Positive, Real, Settings, Share


class PackageWeights(Settings):
    """Weights inside a package of `config/downloads.yaml`."""

    package: StrictStr
    path: StrictStr
    """The file or folder inside it."""


class RepositoryWeights(Settings):
    """Weights in a repository of the model hub."""

    repository: Annotated[StrictStr, Field(pattern="^[^/]+/[^/]+$")]
    revision: Annotated[StrictStr, Field(pattern="^[^/]+$")]
    """A commit; a branch is resolved to a commit once, and that is recorded."""


class OwnWeights(Settings):
    """Local weights."""

    path: OwnPath
    """A file or a folder, relative to the workflow's folder."""


class Fingerprint(Settings):
    """Local weights in an experiment's settings, identified by content rather than by path."""

    fingerprint: StrictStr


def _kind_of_weights(value: object) -> str:
    given = value.model_fields_set if isinstance(value, Settings) else value if isinstance(value, Mapping) else ()
    return next((key for key in ("package", "repository", "fingerprint") if key in given), "path")


Weights = Annotated[
    Annotated[PackageWeights, Tag("package")]
    | Annotated[RepositoryWeights, Tag("repository")]
    | Annotated[Fingerprint, Tag("fingerprint")]
    | Annotated[OwnWeights, Tag("path")],
    Discriminator(_kind_of_weights),
]


class Split(Settings):
    """Share of the entities in each split; the shares sum to 1."""

    train: Share
    validation: Share
    test: Share

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares add up to {total:g}, not 1")
        return self


class Sample(Settings):
    """The sample: questions about flags."""

    articles: Positive = 1000
    images_per_entity: Positive = 6
    image_size: Annotated[StrictInt, Field(ge=32)] = 256
    split: Split


Files = Annotated[
    StrictStr | dict[str, Any],
    Field(description="a name in config/sources.yaml, or its fields (`vlret.data.sources.resolve`)", min_length=1),
]


class SampleSource(Settings):
    """The generated sample."""

    sample: Sample


class EntitySource(Settings):
    """More images of the entities of another dataset."""

    entities: Files
    """`wikidata_id` -> its images."""
    images: Files
    of: Part
    """The dataset that provides the articles and passages."""
    without: list[Part]
    """Datasets whose entities are excluded."""
    least_passages: Count = 0
    split: Split


class PublishedSource(Settings):
    """Published records, or local ones in the same layout."""

    questions: Files
    trivia: Files | None = None
    """The text of questions that are published by id only."""
    wikipedia: Files | None = None
    images: Files | None = None
    """Images of questions, and of articles unless `article_images` is given."""
    article_images: Files | None = None
    passages: Files | None = None
    """Published passages, instead of cutting articles."""


def _kind_of_source(value: object) -> str:
    given = value.model_fields_set if isinstance(value, Settings) else value if isinstance(value, Mapping) else ()
    return next((key for key in ("sample", "entities") if key in given), "published")


Source = Annotated[
    Annotated[SampleSource, Tag("sample")]
    | Annotated[EntitySource, Tag("entities")]
    | Annotated[PublishedSource, Tag("published")],
    Discriminator(_kind_of_source),
]


class Passages(Settings):
    """How articles are cut into passages."""

    unit: Literal["sentence", "tokens"] = "tokens"
    tokens: Positive = 100
    """Maximum tokens of a passage, if `unit` is tokens."""


class Relevance(Settings):
    """Which passages are relevant."""

    link: Literal["wikidata", "provenance"] = "wikidata"
    """Whose passages are judged: the article with the question's `wikidata_id`, or all articles in its provenance."""
    titles: StrictStr = ""
    """Separator of title and text when searching for answers; if empty, only the text is searched."""
    matching: Matching = "meerqat"
    """How answers are matched: with a word boundary at both ends, so that answers such as £50 never match, or with no
    letter, digit or mark next to them, so that they do."""


class BM25(Settings):
    """BM25's parameters, instead of tuning them on validation."""

    b: Annotated[Real, Field(ge=0, le=1)]
    k1: NotNegative


class Dataset(Settings):
    """Questions and the articles they are about."""

    source: Source
    knowledge_base: Part | None = None
    """The dataset that provides articles and passages; by default this one."""
    passages: Passages | None = None
    relevance: Relevance = Relevance()
    lexical: BM25 | None = None
    limits: dict[StrictStr, Count] = {}
    """Maximum problems of each kind; see the dataset's reports."""
