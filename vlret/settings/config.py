"""The whole config, and the settings of one experiment that come of it."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictInt, StrictStr, field_validator

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
    Real,
    Settings,
    Share,
)
from vlret.settings.models import AnyBackbone, Encoder, Model
from vlret.settings.sources import Dataset
from vlret.settings.training import Training, Trainings
from vlret.settings.tuning import AnyTuning, Tunings


class Block(Settings):
    """A product of parts: all combinations that make sense."""

    model: Parts
    tuning: Parts
    prefix: Parts
    pooling: Parts


class Excluded(Settings):
    """Parts whose combinations are taken out of the grid."""

    model: Parts | None = None
    tuning: Parts | None = None
    prefix: Parts | None = None
    pooling: Parts | None = None


class Grid(Settings):
    """The experiments."""

    product: list[Block] = []
    exclude: list[Excluded] = []
    include: list[ExperimentName] = []
    """Single experiments by name."""


STEPS = (0.5, 0.25, 0.2, 0.1, 0.05, 0.025, 0.02, 0.01)


class Interpolation(Settings):
    """A weighted sum of scores, tuned on validation."""

    runs: Annotated[list[StrictStr], Field(min_length=2)]
    method: Literal["interpolation"]
    normalisation: Literal["zmuv", "min-max", "rank", "none"]
    step: Annotated[Real, Field(gt=0, le=1)]
    """Between two weights that are tried; it divides 1."""

    @field_validator("step")
    @classmethod
    def _divides(cls, step: float) -> float:
        if abs(round(1 / step) * step - 1) > 1e-9:
            better = next((each for each in STEPS if each <= step), STEPS[-1])
            raise ValueError(f"{step:g} does not divide 1; set {better:g}, or another 1/n")
        return step


class RRF(Settings):
    """Reciprocal rank fusion, which has no weights."""

    runs: Annotated[list[StrictStr], Field(min_length=2)]
    method: Literal["rrf"]
    constant: NotNegative


Fusion = Annotated[Interpolation | RRF, Field(discriminator="method")]


class ForeignRun(Settings):
    """A run made elsewhere: TREC files whose documents are rows of the table of passages."""

    validation: OwnPath
    test: OwnPath


class Ablations(Settings):
    """Rows that ask an experiment again with one side of the questions taken away."""

    of: ExperimentName
    kinds: Annotated[list[Literal["no-text", "no-image"]], Field(min_length=1)]


class Features(Settings):
    """How image features are computed and stored."""

    batch_size: Positive = 32
    workers: Positive = 2
    """Processes that decode images."""
    dtype: Literal["float16", "float32"] = "float16"
    shards: Positive = 1
    """Parts that are computed side by side."""


class Range(Settings):
    """Values that are tried."""

    start: NotNegative
    stop: NotNegative
    step: AboveZero


class Analysis(Settings):
    """What BM25 takes for words."""

    stop_words: Literal["none", "english"] | list[Annotated[StrictStr, Field(min_length=1)]] = "none"
    """Left out of passages and questions; english are the 33 of Lucene's EnglishAnalyzer."""
    stemmer: StrictStr = "none"
    """none or one of Snowball's algorithms such as english."""
    lengths: Literal["exact", "lucene"] = "exact"
    """Of passages, exact or rounded to what Lucene keeps in a byte."""


class LexicalSearch(Settings):
    """BM25."""

    analysis: Analysis = Analysis()
    b: Range = Range(start=0.0, stop=1.0, step=0.1)
    k1: Range = Range(start=0.0, stop=3.0, step=0.1)


class Negatives(Settings):
    """How irrelevant passages are mined."""

    depth: Positive = 100
    """Passages of a run that are looked at, and that are kept a question."""


class Embedding(Settings):
    """How texts are encoded."""

    batch_size: Positive = 128
    question_tokens: Annotated[StrictInt, Field(ge=4)] = 128
    passage_tokens: Annotated[StrictInt, Field(ge=4)] = 256


class Retrieval(Settings):
    """How passages are searched."""

    index: Annotated[StrictStr, Field(min_length=1)] = "Flat"
    """Flat is exact; any other FAISS factory string proposes passages."""
    parameters: StrictStr = ""
    """Of search in that index, as FAISS names them: "nprobe=16", "efSearch=128"."""
    depth: Positive = 100
    """Passages of a run."""


CUTS = (1, 5, 10, 20, 100)


class Evaluation(Settings):
    """What is measured, and which differences are significant."""

    qrels: Literal["static", "dynamic"] = "static"
    """static: passages of the linked article that contain an answer. dynamic, as in meerqat: of whatever article,
    those that contain an answer among all that the table's runs retrieve; every new row may change the others."""
    metrics: Annotated[list[Metric], Field(min_length=1)] = [
        f"{metric}@{cut}" for metric in ("mrr", "precision", "hit_rate") for cut in CUTS
    ]
    columns: Annotated[list[Metric], Field(min_length=1)] = [
        "mrr@100",
        "precision@1",
        *(f"hit_rate@{cut}" for cut in CUTS[1:]),
    ]
    """The metrics that are printed, the first with its interval and validation; the CSV files have all."""
    test: Literal["randomisation", "t"] = "randomisation"
    correction: Literal["none", "holm", "benjamini-hochberg"] = "none"
    """For the number of pairs."""
    p: Share = 0.01
    permutations: Positive = 10000
    groups: Literal["entity", "question"] = "entity"
    """What is swapped and drawn together."""
    interval: Share = 0.95

    def least_permutations(self, rows: int) -> int:
        """The fewest permutations with which the smallest p that the test can give some rows' pairs is `p`.

        That is 1 / (1 + permutations), which Holm multiplies by the number of pairs; 0 for the t-test, which has none.
        """
        if self.test == "t":
            return 0
        compared = max(1, rows * (rows - 1) // 2) if self.correction == "holm" else 1
        return math.ceil(round(compared / self.p, 6)) - 1

    def too_few_permutations(self, rows: int) -> str | None:
        """What is wrong with the number of permutations for a table of so many rows, or None."""
        needed = self.least_permutations(rows)
        if self.permutations >= needed:
            return None
        return (
            f"evaluation.permutations: {self.permutations} cannot yield p as low as {self.p:g} (correction "
            f"{self.correction}, {rows} rows); set {needed} or more, or another evaluation.correction"
        )


class FeatureSettings(Settings):
    """All that decides what a backbone's features are."""

    backbone: AnyBackbone
    dtype: Literal["float16", "float32"] = "float16"


class Compute(Settings):
    """What every computing job is given."""

    threads: Positive = 2
    """More threads add up in another order: the same seed gives the same bits for the same number of threads."""
    environment: Literal["cpu", "gpu"] = "cpu"
    """envs/cpu.yaml or envs/gpu.yaml, for --sdm conda."""


def _empty(value: object) -> object:
    """Nothing is what an empty mapping says."""
    return None if value == {} else value


class Config(Settings):
    """The configuration of a workflow: the config files and `config/models.yaml` together."""

    dataset: Part
    """The dataset that is evaluated."""
    datasets: Annotated[dict[Part, Dataset], Field(min_length=1)]
    seed: Count = 0
    table: Annotated[StrictStr, Field(pattern=f"^{TABLE}$")] = "table"
    """results/<table>.tex and its siblings: grids of one folder have a table each."""
    grid: Grid
    fusions: dict[Part, Fusion] = {}
    """Rows that combine the runs of others."""
    runs: dict[Part, ForeignRun] = {}
    """Rows whose runs were made elsewhere."""
    ablations: Annotated[Ablations | None, BeforeValidator(_empty)] = None
    prefixes: dict[Part, StrictStr] = {"none": ""}
    """Texts in front of questions and passages."""
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
    """The most tokens of a text."""

    question: Positive
    passage: Positive


class ExperimentSettings(Settings):
    """All that decides what an experiment's encoder is and how it is trained, and nothing else."""

    name: StrictStr
    model: Encoder
    tuning: AnyTuning
    prefix: StrictStr = ""
    pooling: StrictStr
    tokens: Tokens
    seed: Count = 0
    training: Training | None = None
    """Nothing where nothing is trained."""


class Checkpoint(ExperimentSettings):
    """The settings of a trained experiment, as its `config.json` has them."""

    feature_dim: Positive | None
    """The width of the features that it was trained on; none for a model of text."""
