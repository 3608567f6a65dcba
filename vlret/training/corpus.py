"""The two sides of a bi-encoder, from the tables and feature stores of a dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, load_from_disk

from vlret.data.tables import all_questions, article_of
from vlret.encoders.inputs import Side, passage_text, question_text
from vlret.features.store import FeatureStore
from vlret.files import InputError
from vlret.settings import ExperimentSettings


class Texts:
    """Lazily built texts, as twelve million passages should not be a list."""

    def __init__(self, table: Dataset, columns: list[str], join):
        self.table, self.join = table.select_columns(columns), join

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> str:
        return self.join(**self.table[row])


@dataclass(frozen=True)
class Tables:
    """The paths of a dataset's tables and feature stores that are read; a text model reads no stores."""

    questions: Path | None = None
    passages: Path | None = None
    articles: Path | None = None
    question_features: Path | None = None
    article_features: Path | None = None


def question_side(settings: ExperimentSettings, tables: Tables, tokenizer) -> Side:
    """Every question: prefix, text and image; only the image for image and dual models."""
    questions = all_questions(tables.questions)
    texts = None
    if settings.model.kind not in ("image", "dual"):
        texts = question_texts(settings.prefix, questions, "input")
    store = _store(settings, tables.question_features)
    images = None if store is None else store.rows(questions["image"])
    return Side(texts, images, store, tokenizer, settings.tokens.question)


def passage_side(settings: ExperimentSettings, tables: Tables, tokenizer) -> Side:
    """Every passage: prefix, title, text and the image of its article."""
    passages, store = load_from_disk(str(tables.passages)), _store(settings, tables.article_features)
    images = None if store is None else article_images(tables, store)[article_of(tables.passages)]
    return Side(passage_texts(settings, passages), images, store, tokenizer, settings.tokens.passage)


def question_texts(prefix: str, questions: Dataset, column: str) -> Texts:
    """The prefix and one column of questions."""
    return Texts(questions, [column], lambda **row: question_text(prefix, row[column]))


def passage_texts(settings: ExperimentSettings, passages: Dataset) -> Texts:
    """The prefix, title and text of passages."""
    separator = settings.model.text.separator
    return Texts(
        passages,
        ["title", "text"],
        lambda title, text: passage_text(settings.prefix, title, separator, text),
    )


def article_side(settings: ExperimentSettings, tables: Tables, tokenizer) -> Side:
    """Every article by its image, or for a dual model by its title."""
    if settings.model.kind == "dual":
        titles = Texts(load_from_disk(str(tables.articles)), ["title"], lambda title: title)
        return Side(titles, None, None, tokenizer, settings.tokens.passage)
    store = _store(settings, tables.article_features)
    return Side(None, article_images(tables, store), store, None, 0)


def article_images(tables: Tables, store: FeatureStore) -> np.ndarray:
    """The row in the store of each article's image, -1 without a readable one: `[articles]`."""
    return store.rows(load_from_disk(str(tables.articles))["image"])


def _store(settings: ExperimentSettings, path: Path | None) -> FeatureStore | None:
    if settings.model.kind == "text":
        return None
    if path is None:
        raise InputError(f"{settings.name}: a model of kind {settings.model.kind} needs feature stores")
    return FeatureStore.open(path)
