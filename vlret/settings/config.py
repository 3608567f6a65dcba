"""The whole config, and the settings of one experiment derived from it."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr, field_validator

from vlret.settings.base import (
    TABLE,
    AboveZero,
    Count,
    ExperimentName,
    Metric,
    NotNegative,
    OwnPath,
    Part,
    Parts,
    Positive,
    Precision,
    Real,
    Settings,
    Share,
)
from vlret.settings.models import AnyBackbone, Encoder, Model
from vlret.settings.sources import Dataset
from vlret.settings.training import Training, Trainings
from vlret.settings.tuning import AnyTuning, Tunings


class Block(Settings):
    """A Cartesian product of parts, restricted to valid combinations."""

    model: Parts
    tuning: Parts
    prefix: Parts
    pooling: Parts


class Excluded(Settings):
    """Parts whose combinations are removed from the grid."""

    model: Parts | None = None
    tuning: Parts | None = None
    prefix: Parts | None = None
    pooling: Parts | None = None


class Grid(Settings):
    """The experiments."""

    product: list[Block] = []
    exclude: list[Excluded] = []
    include: list[ExperimentName] = []
    """Individual experiments, by name."""


STEPS = (0.5, 0.25, 0.2, 0.1, 0.05, 0.025, 0.02, 0.01)


class Interpolation(Settings):
    """A weighted sum of scores; weights are tuned on validation."""

    runs: Annotated[list[StrictStr], Field(min_length=2)]
    method: Literal["interpolation"]
    normalisation: Literal["zmuv", "min-max", "rank", "none"]
    step: Annotated[Real, Field(gt=0, le=1)]
    """Spacing of the weight grid; must divide 1."""

    @field_validator("step")
    @classmethod
    def _divides(cls, step: float) -> float:
        if abs(round(1 / step) * step - 1) > 1e-9:
            better = next((each for each in STEPS if each <= step), STEPS[-1])
            raise ValueError(f"{step:g} does not divide 1; set {better:g}, or another 1/n")
        return step


class RRF(Settings):
    """Reciprocal rank fusion, without weights."""

    runs: Annotated[list[StrictStr], Field(min_length=2)]
    method: Literal["rrf"]
    constant: NotNegative


Fusion = Annotated[Interpolation | RRF, Field(discriminator="method")]


class ForeignRun(Settings):
    """An external run: TREC files whose document ids are rows of the passages table."""

    validation: OwnPath
    test: OwnPath


class Ablations(Settings):
    """Rows that repeat an experiment without the text or the image of its questions."""

    of: ExperimentName
    kinds: Annotated[list[Literal["no-text", "no-image"]], Field(min_length=1)]


class Features(Settings):
    """How image features are computed and stored."""

    batch_size: Positive = 32
    workers: Positive = 2
    """Processes that decode images."""
    dtype: Literal["float16", "float32"] = "float16"
    shards: Positive = 1
    """Parts computed in parallel."""


class Range(Settings):
    """The values to try."""

    start: NotNegative
    stop: NotNegative
    step: AboveZero


class Analysis(Settings):
    """How BM25 tokenises text."""

    stop_words: Literal["none", "english"] | list[Annotated[StrictStr, Field(min_length=1)]] = "none"
    """Removed from passages and questions; english: the 33 of Lucene's EnglishAnalyzer."""
    stemmer: StrictStr = "none"
    """none, or a Snowball algorithm such as english."""
    lengths: Literal["exact", "lucene"] = "exact"
    """Passage lengths: exact, or rounded as Lucene does to fit a byte."""


class LexicalSearch(Settings):
    """BM25."""

    analysis: Analysis = Analysis()
    b: Range = Range(start=0.0, stop=1.0, step=0.1)
    k1: Range = Range(start=0.0, stop=3.0, step=0.1)


class Negatives(Settings):
    """How irrelevant passages are mined."""

    depth: Positive = 100
    """Passages per question that are read from a run, and kept."""


class Embedding(Settings):
    """How texts are encoded, and vectors stored."""

    batch_size: Positive = 128
    question_tokens: Annotated[StrictInt, Field(ge=4)] = 128
    passage_tokens: Annotated[StrictInt, Field(ge=4)] = 256
    precision: Precision | None = None
    """Of products; none: the training's, or that of `training.defaults` for what is not trained."""
    dtype: Literal["float16", "float32", "int8"] = "float16"
    """Of the passages' vectors on disk. int8 has a scale per vector."""
    shards: Positive = 1
    """Parts embedded in parallel, with the same result; after a change, unfinished rows are embedded again."""
    keep: StrictBool = True
    """Whether passages' vectors stay; false: they are deleted once all runs that search them are done."""


class Retrieval(Settings):
    """How passages are retrieved."""

    index: Annotated[StrictStr, Field(min_length=1)] = "Flat"
    """Flat: exact; any other FAISS factory string proposes passages to score exactly."""
    parameters: StrictStr = ""
    """FAISS search parameters of that index: "nprobe=16", "efSearch=128"."""
    depth: Positive = 100
    """Passages per question in a run."""


CUTS = (1, 5, 10, 20, 100)


class Evaluation(Settings):
    """Metrics and significance tests."""

    qrels: Literal["static", "dynamic"] = "static"
    """static: passages of the linked article that contain an answer. dynamic, as in meerqat: passages of any article
    that contain an answer, pooled over the table's runs; a new row may change the other rows."""
    metrics: Annotated[list[Metric], Field(min_length=1)] = [
        f"{metric}@{cut}" for metric in ("mrr", "precision", "hit_rate") for cut in CUTS
    ]
    columns: Annotated[list[Metric], Field(min_length=1)] = [
        "mrr@100",
        "precision@1",
        *(f"hit_rate@{cut}" for cut in CUTS[1:]),
    ]
    """The metrics shown, the first with its interval and validation score; CSV files have all."""
    test: Literal["randomisation", "t"] = "randomisation"
    correction: Literal["none", "holm", "benjamini-hochberg"] = "none"
    """Correction for multiple comparisons."""
    p: Share = 0.01
    permutations: Positive = 10000
    groups: Literal["entity", "question"] = "entity"
    """The unit that is permuted and resampled."""
    interval: Share = 0.95

    def least_permutations(self, rows: int) -> int:
        """The fewest permutations with which the test can reach `p` in a table of so many rows.

        The smallest p is 1 / (1 + permutations), times the number of pairs with Holm. 0 for the t-test.
        """
        if self.test == "t":
            return 0
        compared = max(1, rows * (rows - 1) // 2) if self.correction == "holm" else 1
        return math.ceil(round(compared / self.p, 6)) - 1

    def too_few_permutations(self, rows: int) -> str | None:
        """Why there are too few permutations for a table of so many rows, or None."""
        needed = self.least_permutations(rows)
        if self.permutations >= needed:
            return None
        return (
            f"evaluation.permutations: {self.permutations} cannot yield p as low as {self.p:g} (correction "
            f"{self.correction}, {rows} rows); set {needed} or more, or another evaluation.correction"
        )


class FeatureSettings(Settings):
    """Everything that determines a backbone's features."""

    backbone: AnyBackbone
    dtype: Literal["float16", "float32"] = "float16"


class Compute(Settings):
    """Resources of every computing job."""

    threads: Positive = 2
    """Results are bitwise reproducible only for the same number: it sets the order of summation."""
    environment: Literal["cpu", "gpu"] = "cpu"
    """envs/cpu.yaml or envs/gpu.yaml, with --sdm conda."""


def _empty(value: object) -> object:
    """Read an empty mapping as None."""
    return None if value == {} else value


class Config(Settings):
    """The configuration of the workflow: `config/models.yaml` merged with the config files."""

    dataset: Part
    """The dataset to evaluate."""
    datasets: Annotated[dict[Part, Dataset], Field(min_length=1)]
    seed: Count = 0
    table: Annotated[StrictStr, Field(pattern=f"^{TABLE}$")] = "table"
    """Name of results/<table>.tex and its siblings; one per grid in a folder."""
    grid: Grid
    fusions: dict[Part, Fusion] = {}
    """Rows that combine the runs of other rows."""
    runs: dict[Part, ForeignRun] = {}
    """Rows of external runs."""
    ablations: Annotated[Ablations | None, BeforeValidator(_empty)] = None
    prefixes: dict[Part, StrictStr] = {"none": ""}
    """Texts prepended to questions and passages."""
    features: Features = Features()
    lexical: LexicalSearch = LexicalSearch()
    negatives: Negatives = Negatives()
    tuning: Tunings = Tunings()
    training: Trainings = Trainings()
    embedding: Embedding = Embedding()
    retrieval: Retrieval = Retrieval()
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()
    models: dict[Part, Model]
    backbones: dict[Part, AnyBackbone] = {}


class Tokens(Settings):
    """Maximum tokens of a text."""

    question: Positive
    passage: Positive


class ExperimentSettings(Settings):
    """Everything that determines an experiment's encoder and its training, and nothing else."""

    name: StrictStr
    model: Encoder
    tuning: AnyTuning
    prefix: StrictStr = ""
    pooling: StrictStr
    tokens: Tokens
    seed: Count = 0
    training: Training | None = None
    """None if nothing is trained."""


class Checkpoint(ExperimentSettings):
    """The settings of a trained experiment, stored as its `config.json`."""

    feature_dim: Positive | None
    """Dimension of the image features; none for a text model."""
    precision: Precision | None = None
    """The precision that it was trained in, where the settings leave it to the machine; none if it was not trained."""
    weights: dict[StrictStr, StrictStr] = {}
    """The digests of the weights it was trained from, by name; with them its own give the model."""
