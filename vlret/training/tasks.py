"""Kinds of training tasks: two sides, and examples that pair them.

Only training questions and their articles are used, so that no task reveals an entity of another split.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from datasets import load_from_disk

from vlret.data.tables import all_questions, article_of
from vlret.encoders.inputs import Side
from vlret.files import InputError
from vlret.negatives.mine import read
from vlret.runs import read_qrels
from vlret.settings import IMAGES, ExperimentSettings
from vlret.training.batches import Example, Task
from vlret.training.corpus import (
    Tables,
    article_side,
    passage_side,
    passage_texts,
    question_side,
    question_texts,
)
from vlret.training.distributed import say

NONE: Mapping[str, Sequence[int]] = {}  # the negatives of tasks without any, shared by their examples


@dataclass(frozen=True)
class Source:
    """A dataset, with judgements and mined passages for one split.

    Attributes
    ----------
    settings
        The experiment's.
    tables
        The dataset's tables and feature stores that its tasks read (`vlret.settings.TASK_KINDS`).
    tokenizer
        The text encoder's.
    qrels
        The judgements of the split; None if no task reads them.
    negatives
        Miner -> its irrelevant passages for the split.
    """

    settings: ExperimentSettings
    tables: Tables
    tokenizer: object
    qrels: Path | None
    negatives: Mapping[str, Path]

    @cached_property
    def questions(self) -> Side:
        """Every question with its image."""
        return question_side(self.settings, self.tables, self.tokenizer)

    @cached_property
    def passages(self) -> Side:
        """Every passage with its article's image."""
        return passage_side(self.settings, self.tables, self.tokenizer)

    @property
    def parts(self) -> dict[str, Path]:
        """The available files of the dataset, by the names of `vlret.settings.Training.parts`."""
        mined = {f"negatives.{miner}": path for miner, path in self.negatives.items()}
        named = {**vars(self.tables), "qrels": self.qrels, **mined}
        return {name: path for name, path in named.items() if path is not None}

    def examples(self, shares: Mapping[str, float]) -> list[Example]:
        """The split's questions with a relevant passage, with negatives from the miners of `shares`."""
        positives = self.settings.training.positives
        return judged_examples(self.tables.questions, self.qrels, self.negatives, shares, positives)


def sources_of(evaluated: Source, files: Mapping[str, Path]) -> dict[str | None, Source]:
    """The datasets of an experiment's tasks by name, the evaluated one under None.

    `files` are those of the others: `DATASET.PART` -> path, with a part of `vlret.settings.Training.parts`.

    Raises
    ------
    InputError
        If a task's dataset lacks a part that its kind reads.
    """
    training, sees = evaluated.settings.training, evaluated.settings.model.kind == "joint"
    sources = {None: evaluated}
    for dataset in dict.fromkeys(task.dataset for task in training.tasks.values()):
        own = {name.partition(".")[2]: path for name, path in files.items() if name.partition(".")[0] == dataset}
        given = evaluated.parts if dataset is None else own
        needed = [part for part in training.parts(dataset) if part not in IMAGES or sees]
        if missing := [part for part in needed if part not in given]:
            where = "the evaluated dataset" if dataset is None else f"{dataset} in --datasets"
            raise InputError(f"training.tasks: missing {', '.join(missing)} of {where}")
        if dataset is not None:
            negatives = {name.partition(".")[2]: own.pop(name) for name in [*own] if name.startswith("negatives.")}
            qrels = own.pop("qrels", None)
            sources[dataset] = replace(evaluated, tables=Tables(**own), qrels=qrels, negatives=negatives)
    return sources


def tasks_of(sources: Mapping[str | None, Source]) -> list[Task]:
    """The tasks of an experiment's training, in the config's order.

    Raises
    ------
    InputError
        If a miner of `training.negatives` has no file, or the tables lack what a task needs.
    """
    training = sources[None].settings.training
    tasks = []
    for name in training.tasks:
        settings = training.of_task(name)
        task = Task(name, *KINDS[settings.kind](sources[settings.dataset], settings.negatives), settings)
        if len(training.tasks) > 1:
            say(f"task {name}: {len(task.examples)} examples")
        tasks.append(task)
    return tasks


def viquae(source: Source, shares: Mapping[str, float]) -> tuple[Side, Side, list[Example]]:
    """Question and image to passage and article image, with hard negatives."""
    return source.questions, source.passages, source.examples(shares)


def triviaqa(source: Source, shares: Mapping[str, float]) -> tuple[Side, Side, list[Example]]:
    """Question that names its entity to passage, both without images, with hard negatives."""
    settings, tables = source.settings, source.tables
    questions = all_questions(tables.questions)
    if "original_question" not in questions.column_names:
        raise InputError(f"{tables.questions}: no column 'original_question', which tasks of kind triviaqa need")
    asked = question_texts(settings.prefix, questions, "original_question")
    known = questions["original_question"][:]
    passages = passage_texts(settings, load_from_disk(str(tables.passages)))
    return (
        Side(asked, None, None, source.tokenizer, settings.tokens.question),
        Side(passages, None, None, source.tokenizer, settings.tokens.passage),
        [example for example in source.examples(shares) if known[example.unit]],
    )


def match_image(source: Source, _: Mapping[str, float]) -> tuple[Side, Side, list[Example]]:
    """Image of an entity to image of its article, both without text."""
    articles = article_side(source.settings, source.tables, source.tokenizer)
    photographs = source.questions.images
    examples = [
        Example(rows[0], entity, (article,), {})
        for entity, article, images in _entities(source)
        if articles.images[article] >= 0
        for rows in images.values()
        if photographs[rows[0]] >= 0
    ]
    return replace(source.questions, texts=None, tokenizer=None), articles, examples


def match_article(source: Source, _: Mapping[str, float]) -> tuple[Side, Side, list[Example]]:
    """Passage with an image of the article's entity to another passage of the article with the article's image.

    The images of an entity are assigned to the passages of its article in turn.
    """
    passages = load_from_disk(str(source.tables.passages))
    owners = article_of(source.tables.passages)
    rows, images, examples = [], [], []
    for entity, article, photographs in _entities(source):
        own = range(*(int(end) for end in np.searchsorted(owners, [article, article + 1])))
        shown = [source.questions.images[units[0]] for units in photographs.values()]
        shown = [image for image in shown if image >= 0]
        if len(own) < 2 or not shown:
            continue
        for number, row in enumerate(own):
            examples.append(Example(len(rows), entity, Besides(own, row), NONE))
            rows.append(row)
            images.append(shown[number % len(shown)])
    anchors = replace(
        source.questions,
        texts=passage_texts(source.settings, passages.select(rows)),
        images=np.array(images, dtype=np.int64),
        limit=source.passages.limit,
    )
    return anchors, source.passages, examples


class Besides(Sequence[int]):
    """The numbers of a range except one of them, in order, without holding them."""

    __slots__ = ("every", "without")

    def __init__(self, every: range, without: int):
        self.every, self.without = every, without

    def __len__(self) -> int:
        return len(self.every) - 1

    def __getitem__(self, place: int) -> int:
        number = self.every[:-1][place]
        return number if number < self.without else number + 1


Kind = Callable[[Source, Mapping[str, float]], tuple[Side, Side, list[Example]]]
KINDS: dict[str, Kind] = {
    "viquae": viquae,
    "triviaqa": triviaqa,
    "match_image": match_image,
    "match_article": match_article,
}


def judged_examples(
    questions: Path, qrels: Path, negatives: Mapping[str, Path], shares: Mapping[str, float], positives: str
) -> list[Example]:
    """The questions of a split with a relevant passage; reports how many there are.

    Each batch samples one of a question's `positives`: `judged`, those of the qrels; or the name of a miner, the
    passages in its run that contain the original answer, or the judged ones if there are none (as in meerqat and cvlp).
    """
    searched = {} if positives == "judged" else {positives}
    if missing := sorted({*shares, *searched} - negatives.keys()):
        raise InputError(f"training.negatives: missing mined passages of {', '.join(missing)}")
    judged = read_qrels(qrels)
    mined = {miner: read(negatives[miner]) for miner in shares}
    found = read(negatives[positives], "relevant") if searched else {}
    examples = []
    for unit, row in enumerate(all_questions(questions).select_columns(["id", "wikidata_id"])):
        question = row["id"]
        linked = sorted(judged.get(question, ()))
        drawn = found[question].tolist() if question in found and len(found[question]) else linked
        if drawn:
            own = {miner: passages[question].tolist() for miner, passages in mined.items()}
            others = tuple(passage for passage in linked if passage not in drawn)
            examples.append(Example(unit, row["wikidata_id"], tuple(drawn), own, others))
    say(f"{qrels}: {len(examples)} of {len(judged)} questions have a relevant passage; only these are used")
    return examples


def _entities(source: Source) -> list[tuple[str, int, dict[str, list[int]]]]:
    """Each entity of the training questions, its article, and its images with their questions."""
    train = load_from_disk(str(source.tables.questions))["train"].select_columns(["wikidata_id", "article", "image"])
    found: dict[tuple[str, int], dict[str, list[int]]] = {}
    for unit, row in enumerate(train):
        images = found.setdefault((row["wikidata_id"], row["article"]), {})
        images.setdefault(row["image"], []).append(unit)
    return [(entity, article, images) for (entity, article), images in found.items()]
