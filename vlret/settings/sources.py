"""Where data and weights come from: published, packaged, or one's own."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StrictInt, StrictStr, Tag, model_validator

from vlret.settings.base import Count, Matching, NotNegative, OwnPath, Part, Positive, Real, Settings, Share


class PackageWeights(Settings):
    """Weights inside a package of `config/downloads.yaml`."""

    package: StrictStr
    path: StrictStr
    """The file or folder in it."""


class RepositoryWeights(Settings):
    """Weights in a repository of the model hub."""

    repository: Annotated[StrictStr, Field(pattern="^[^/]+/[^/]+$")]
    revision: Annotated[StrictStr, Field(pattern="^[^/]+$")]
    """A commit; a branch is followed once, and the commit found then is noted."""


class OwnWeights(Settings):
    """Weights of one's own."""

    path: OwnPath
    """A file or a folder, relative to the workflow's folder."""


class Fingerprint(Settings):
    """One's own weights in an experiment's settings, known by what they are and not by where they lie."""

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
    """Shares of the entities in each split, which add up to 1."""

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
    Field(description="a name of config/sources.yaml, or its fields (`vlret.data.sources.resolve`)", min_length=1),
]


class SampleSource(Settings):
    """Made for the sample."""

    sample: Sample


class EntitySource(Settings):
    """Further images of the entities of another dataset's articles."""

    entities: Files
    """`wikidata_id` -> its images."""
    images: Files
    of: Part
    """The dataset whose articles these are."""
    without: list[Part]
    """Datasets whose entities are left out."""
    least_passages: Count = 0
    split: Split


class PublishedSource(Settings):
    """Records as they are published, or one's own in the same layout."""

    questions: Files
    trivia: Files | None = None
    """The words of questions that come by id alone."""
    wikipedia: Files | None = None
    images: Files | None = None
    """Of questions, and of articles that have no other."""
    article_images: Files | None = None
    passages: Files | None = None
    """As published, where they are not cut."""


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
    """The most of a passage, where `unit` is tokens."""


class Relevance(Settings):
    """Which passages of which articles are relevant."""

    link: Literal["wikidata", "provenance"] = "wikidata"
    """Which articles' passages are judged: the one with the question's `wikidata_id`, or all that provenance names."""
    titles: StrictStr = ""
    """What stands between title and text where answers are looked for; in the text alone if it is empty."""
    matching: Matching = "meerqat"
    """How an answer stands in a text: with a word boundary at both ends, which a symbol at the end of an answer such as
    £50 never is, or with no letter, digit or mark beside it, which finds those, too."""


class BM25(Settings):
    """BM25's parameters, where they are not tuned on validation."""

    b: Annotated[Real, Field(ge=0, le=1)]
    k1: NotNegative


class Dataset(Settings):
    """Questions and the articles that they are about."""

    source: Source
    knowledge_base: Part | None = None
    """The dataset whose articles and passages these questions are about; its own if not given."""
    passages: Passages | None = None
    relevance: Relevance = Relevance()
    lexical: BM25 | None = None
    limits: dict[StrictStr, Count] = {}
    """The most problems of each kind; see the dataset's reports."""
