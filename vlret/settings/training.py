"""How an experiment is trained: objectives, tasks, steps."""

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
    Settings,
)

# Losses of cosines, which the lengths of vectors do not enter.
ModelPart = Literal["visual", "head", "added", "encoder"]
DIRECTIONS = ("clip", "cosine")


class Loss(Settings):
    """What a training minimises."""

    name: Literal["dpr", "clip", "cosine"] = "dpr"
    temperature: AboveZero = 0.05
    learned: StrictBool = True
    """Whether the temperature is."""

    @model_validator(mode="after")
    def _fixed(self) -> Self:
        if self.name == "cosine" and self.learned:
            raise ValueError("the cosine loss has no temperature to learn; set learned to false")
        return self


IMAGES = ("question_features", "article_features")


class TaskKind(NamedTuple):
    """What of a dataset a kind of task reads (of a model of text alone no features), and which models it trains."""

    reads: tuple[str, ...]
    models: tuple[str, ...] = ("text", "joint")


# `vlret.training.tasks` says what each is.
TASK_KINDS = {
    "viquae": TaskKind(("questions", "passages", "articles", *IMAGES, "qrels")),
    "triviaqa": TaskKind(("questions", "passages", "qrels")),
    "match_image": TaskKind(("questions", "articles", *IMAGES), ("joint",)),
    "match_article": TaskKind(("questions", "passages", "articles", *IMAGES), ("joint",)),
}


class Task(Settings):
    """One task of a training; what it does not give is the training's."""

    kind: Literal[tuple(TASK_KINDS)]
    dataset: Part | None = None
    """Whose questions these are, where not the evaluated one's."""
    weight: AboveZero | None = None
    """Of the task, where tasks are mixed by size."""
    batch_size: Annotated[StrictInt, Field(ge=2)] | None = None
    negatives_per_question: Count | None = None
    negatives: Miners | None = None
    loss: Loss | None = None


class PartRates(Settings):
    """What differs for a part of the model."""

    learning_rate: AboveZero | None = None
    weight_decay: NotNegative | None = None


class Training(Settings):
    """How an experiment is trained, as far as what it learns depends on it."""

    steps: Positive = 1000
    batch_size: Annotated[StrictInt, Field(ge=2)] = 32
    negatives_per_question: Count = 1
    negatives: Miners = {"bm25": 1.0}
    """Shares of the miners: bm25, article (the linked one), random, same-type, and of the runs of the grid's
    experiments image.effnet_zs_none_concat (articles that look alike) and model.minilm_zs_none_avg (what it ranks
    high)."""
    positives: Annotated[StrictStr, Field(pattern=rf"^(judged|bm25|(image|model)\.{EXPERIMENT})$")] = "judged"
    """What is found: any of the judged passages, drawn anew each time, or, as in meerqat, those that a miner's run
    ranks and that hold the original answer, where there are some."""
    learning_rate: AboveZero = 1e-4
    warmup_steps: Count = 0
    """Steps over which the learning rate grows linearly from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Of the learning rate after the warm-up: to 0 at the last step, linearly or along half a cosine, or as it is."""
    weight_decay: NotNegative = 0.01
    """Of parameters with two or more dimensions; the others do not decay."""
    by_part: dict[ModelPart, PartRates] = {}
    """Part -> its own learning rate and weight decay: the visual embedding, the head, what the tuning method added, the
    pretrained encoder."""
    max_gradient_norm: AboveZero = 1.0
    accumulation: Positive = 1
    """Batches a step."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    chunk: Positive | None = None
    """Questions that are encoded at a time (GradCache); none encodes the whole batch."""
    checkpointing: StrictBool = False
    """Gradient checkpointing: less memory, more time."""
    compile: StrictBool = False
    """torch.compile."""
    loss: Loss = Loss()
    tasks: Annotated[dict[Annotated[StrictStr, Field(pattern=f"^{TASK}$")], Task], Field(min_length=1)] = {
        "viquae": Task(kind="viquae")
    }
    """A step is a batch of one of them."""
    mixing: Literal["round-robin", "balanced"] = "round-robin"
    """The tasks in turn, or by their size and weight."""
    start: ExperimentName | None = None
    """The experiment whose checkpoint this one starts from."""
    validate_every: Count = 0
    """Steps between two validations, which keep the best weights by MRR; 0 is never."""
    validation_batches: Positive = 2
    """Pools of validation questions."""
    patience: Count = 0
    """Validations without a gain that stop the training; 0 is never."""

    def of_task(self, name: str) -> Task:
        """A task with what it takes from the training filled in."""
        task = self.tasks[name]
        own = {key: getattr(self, key) for key in ("batch_size", "negatives_per_question", "negatives", "loss")}
        filled = {key: value for key, value in own.items() if getattr(task, key) is None}
        return task.model_copy(update={**filled, "weight": 1.0 if task.weight is None else task.weight})

    def parts(self, dataset: str | None = None) -> list[str]:
        """What of a dataset the tasks read: tables, stores, `qrels`, and `negatives.MINER` of each miner.

        `dataset` is one that tasks name; None stands for the evaluated one.
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
        """The miners that the tasks ask for negatives and positives of a dataset."""
        parts = self.parts(dataset)
        return [part.removeprefix("negatives.") for part in parts if part.startswith("negatives.")]


class TrainingRun(Training):
    """A training of the config: also where it runs and how often its state is saved, which re-trains nothing."""

    save_steps: Positive = 100
    """Steps between two states that a stopped training resumes from."""
    gpus: Positive = 1
    """Processes of each node, a GPU each. With a `chunk` that divides a process's share the losses are those of one
    process, but for rounding; without one, dropout differs."""
    nodes: Positive = 1
    """Nodes of the cluster's job."""

    def learned(self) -> Training:
        """The settings that what is learned depends on."""
        return Training(**{name: value for name, value in self.given().items() if name in Training.model_fields})


class Pretraining(TrainingRun):
    """How a model is trained before it is tuned."""

    tuning: Part
    """The tuning method."""


class Trainings(Settings):
    """Defaults, then what a tuning method changes, then what one experiment changes."""

    defaults: TrainingRun = TrainingRun()
    tuning: dict[Part, TrainingRun] = {}
    experiments: dict[ExperimentName, TrainingRun] = {}
    pretraining: dict[Part, Pretraining] = {}
    """By the name that a model's `pretraining` gives."""
