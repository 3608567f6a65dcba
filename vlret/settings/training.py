"""Training settings: losses, tasks, optimisation."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from vlret.settings.base import (
    EXPERIMENT,
    TASK,
    AboveZero,
    Count,
    ExperimentName,
    Miners,
    NotNegative,
    Part,
    Positive,
    Precision,
    Settings,
)

ModelPart = Literal["visual", "head", "added", "encoder"]
# Losses of cosine similarities, which ignore the lengths of vectors.
DIRECTIONS = ("clip", "cosine")


class Loss(Settings):
    """The training loss."""

    name: Literal["dpr", "clip", "cosine"] = "dpr"
    temperature: AboveZero = 0.05
    learned: StrictBool = True
    """Whether the temperature is learned."""

    @model_validator(mode="after")
    def _fixed(self) -> Self:
        if self.name == "cosine" and self.learned:
            raise ValueError("the cosine loss has no temperature to learn; set learned to false")
        return self


IMAGES = ("question_features", "article_features")


class TaskKind(NamedTuple):
    """What a kind of task reads of a dataset (no features for a text model), and the kinds of models it trains."""

    reads: tuple[str, ...]
    models: tuple[str, ...] = ("text", "joint")


# See `vlret.training.tasks` for what each does.
TASK_KINDS = {
    "viquae": TaskKind(("questions", "passages", "articles", *IMAGES, "qrels")),
    "triviaqa": TaskKind(("questions", "passages", "qrels")),
    "match_image": TaskKind(("questions", "articles", *IMAGES), ("joint",)),
    "match_article": TaskKind(("questions", "passages", "articles", *IMAGES), ("joint",)),
}


class Task(Settings):
    """One task of a training; omitted fields are those of the training."""

    kind: Literal[tuple(TASK_KINDS)]
    dataset: Part | None = None
    """The dataset of its questions; by default the evaluated one."""
    weight: AboveZero | None = None
    """Factor of its share of steps, with `mixing: balanced`."""
    batch_size: Annotated[StrictInt, Field(ge=2)] | None = None
    negatives_per_question: Count | None = None
    negatives: Miners | None = None
    loss: Loss | None = None


class PartRates(Settings):
    """Overrides for a part of the model."""

    learning_rate: AboveZero | None = None
    weight_decay: NotNegative | None = None


class Training(Settings):
    """The training settings that affect the trained weights."""

    steps: Positive = 1000
    batch_size: Annotated[StrictInt, Field(ge=2)] = 32
    sampling: Literal["epochs", "entities"] = "epochs"
    """Questions of a batch, all of distinct entities. epochs: every question once per epoch, which is as long as the
    most frequent entity has questions if that is more; places that this leaves, and the last batch's, are filled
    evenly with other questions. entities: entities at random, and one question of each."""
    negatives_per_question: Count = 1
    negatives: Miners = {"bm25": 1.0}
    """Shares of the miners: bm25, article (the linked one), random, same-type, and the runs of experiments in the grid:
    image.effnet_zs_none_concat (similar images), model.minilm_zs_none_avg (passages it ranks high)."""
    positives: Annotated[StrictStr, Field(pattern=rf"^(judged|bm25|(image|model)\.{EXPERIMENT})$")] = "judged"
    """judged: relevant passages, resampled each time. A miner, as in meerqat: passages in its run that contain the
    original answer, if there are any."""
    learning_rate: AboveZero = 1e-4
    warmup_steps: Count = 0
    """Steps of linear warm-up from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning rate after the warm-up: linear or half-cosine decay to 0 at the last step, or constant."""
    weight_decay: NotNegative = 0.01
    """For parameters with two or more dimensions only."""
    by_part: dict[ModelPart, PartRates] = {}
    """Learning rate and weight decay by part: the visual embedding, the head, parameters added by the tuning method,
    the pre-trained encoder."""
    max_gradient_norm: AboveZero = 1.0
    accumulation: Positive = 1
    """Batches per optimiser step."""
    precision: Precision = "fp32"
    """Of products. auto: bf16 where the machine computes it natively, else fp32."""
    chunk: Positive | None = None
    """Questions encoded at a time (GradCache); none: the whole batch."""
    checkpointing: StrictBool = False
    """Gradient checkpointing: saves memory, costs time."""
    compile: StrictBool = False
    """torch.compile."""
    loss: Loss = Loss()
    tasks: Annotated[dict[Annotated[StrictStr, Field(pattern=f"^{TASK}$")], Task], Field(min_length=1)] = {
        "viquae": Task(kind="viquae")
    }
    """Each step trains on a batch of one task."""
    mixing: Literal["round-robin", "balanced"] = "round-robin"
    """Tasks in turn, or sampled by size and weight."""
    start: ExperimentName | None = None
    """The experiment whose checkpoint initialises this one."""
    validate_every: Count = 0
    """Steps between validations; the weights with the best MRR are kept. 0: never."""
    validation_batches: Positive = 2
    """Batches of validation questions, each ranked by itself."""
    validation_pool: Count = 0
    """If not 0, validation ranks every question among so many passages, the same for all, instead of batches: the
    relevant ones, mined negatives, the best first, and random ones. MRR@100."""
    patience: Count = 0
    """Stop after this many validations without improvement; 0: never."""

    def of_task(self, name: str) -> Task:
        """A task, with omitted fields filled in from the training."""
        task = self.tasks[name]
        own = {key: getattr(self, key) for key in ("batch_size", "negatives_per_question", "negatives", "loss")}
        filled = {key: value for key, value in own.items() if getattr(task, key) is None}
        return task.model_copy(update={**filled, "weight": 1.0 if task.weight is None else task.weight})

    def parts(self, dataset: str | None = None) -> list[str]:
        """What the tasks read of a dataset: tables, stores, `qrels`, and `negatives.MINER` for each miner.

        `dataset` is one that tasks name, or None for the evaluated one.
        """
        asked: dict[str, None] = {}
        for task in self.tasks.values():
            if task.dataset == dataset:
                asked |= dict.fromkeys(TASK_KINDS[task.kind].reads)
                if "qrels" in TASK_KINDS[task.kind].reads:
                    negatives = self.negatives if task.negatives is None else task.negatives
                    mined = [*negatives, *([self.positives] * (self.positives != "judged"))]
                    asked |= {f"negatives.{miner}": None for miner in mined}
        return list(asked)

    def miners(self, dataset: str | None = None) -> list[str]:
        """The miners of the tasks' negatives and positives on a dataset."""
        parts = self.parts(dataset)
        return [part.removeprefix("negatives.") for part in parts if part.startswith("negatives.")]


class TrainingRun(Training):
    """How an experiment is trained; `save_steps`, `save_minutes`, `gpus` and `nodes` retrain nothing."""

    save_steps: Positive = 100
    """Steps between saved states, from which an interrupted training resumes."""
    save_minutes: AboveZero = 15.0
    """The most minutes between them."""
    gpus: Positive = 1
    """Processes per node, one GPU each. With a `chunk` that divides each process's share of a batch, losses equal those
    of one process up to rounding; without `chunk`, dropout differs."""
    nodes: Positive = 1
    """Nodes of the cluster job."""

    def learned(self) -> Training:
        """The settings that affect the trained weights."""
        return Training(**{name: value for name, value in self.given().items() if name in Training.model_fields})


class Pretraining(TrainingRun):
    """How a model is pre-trained before tuning."""

    tuning: Part
    """The tuning method."""


class Trainings(Settings):
    """Training defaults, overridden by tuning method, then by experiment."""

    defaults: TrainingRun = TrainingRun()
    tuning: dict[Part, TrainingRun] = {}
    experiments: dict[ExperimentName, TrainingRun] = {}
    pretraining: dict[Part, Pretraining] = {}
    """By name, as in a model's `pretraining`."""
