"""Cutting articles into passages: groups of whole sentences, or single sentences.

The rules are meerqat's `uniform_sents` with `special_fields` (ViQuAE, cvlp): the first paragraph (the title), headings
and list items are dropped, the rest is joined without a separator, and sentences are grouped greedily. The title is a
separate column, not part of `text`.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Features, Value, load_from_disk

from vlret.console import progress, say
from vlret.data.parallel import in_order
from vlret.data.sentences import sentences
from vlret.data.tables import read_batches, write_batches
from vlret.settings import Passages
from vlret.typed import typed

PASSAGE = Features({"article": Value("int32"), "title": Value("string"), "text": Value("string")})
SPECIAL = ("Section::::", "BULLET::::")


def body(paragraphs: list[str]) -> str:
    """The running text of an article: paragraphs without separator, no title, headings or list items."""
    return "".join(paragraph for paragraph in paragraphs[1:] if not paragraph.startswith(SPECIAL))


def by_tokens(text: str, tokens: int) -> list[str]:
    """Passages of whole sentences, joined by a space, of at most `tokens` tokens; a longer sentence is one passage."""
    passages: list[str] = []
    group: list[str] = []
    length = 0
    for sentence, count in sentences(text):
        if group and length + count > tokens:
            passages.append(" ".join(group))
            group, length = [], 0
        group.append(sentence)
        length += count
    return [*passages, " ".join(group)] if group else passages


def by_sentence(text: str) -> list[str]:
    """One passage per sentence, stripped of white space."""
    return [stripped for sentence, _ in sentences(text) if (stripped := sentence.strip())]


@typed
def split(articles: Path, settings: Passages, out: Path, workers: int = 1) -> None:
    """Cut a dataset of articles into a dataset of passages; a passage's id is its row.

    Columns: `article` (int32 row of the article), `title`, `text`. Passages of an article are contiguous and in order;
    an article without text has none.

    Parameters
    ----------
    articles
        The table of `vlret.data.articles.import_articles`.
    settings
        The unit: one sentence, or whole sentences up to a number of tokens.
    out
        The table to write.
    workers
        Processes that cut; the result does not depend on their number.

    Raises
    ------
    InputError
        If no article has text.
    """
    total = len(load_from_disk(str(articles)))
    cut = in_order(partial(_cut, settings), _numbered(read_batches(articles, ["title", "paragraphs"])), workers)
    cut = progress(cut, total, "article", "passages", size=lambda done: done[0])
    empty = f"{articles}: no article has text, so there is no passage"
    count = write_batches((batch for _, batch in cut), PASSAGE, out, empty)
    say(f"{count} passages of {total} articles")


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each batch with the row of its first article."""
    first = 0
    for batch in batches:
        yield first, batch
        first += len(batch)


def _cut(settings: Passages, numbered: tuple[int, pa.RecordBatch]) -> tuple[int, pa.RecordBatch]:
    """The number of articles in a batch, and their passages."""
    first, batch = numbered
    bodies = map(body, batch["paragraphs"].to_pylist())
    if settings.unit == "sentence":
        cut = [by_sentence(text) for text in bodies]
    else:
        cut = [by_tokens(text, settings.tokens) for text in bodies]
    places = np.repeat(np.arange(len(batch), dtype=np.int32), [len(passages) for passages in cut])
    texts = pa.array(chain.from_iterable(cut), pa.string(), size=len(places))
    columns = [pa.array(first + places, pa.int32()), batch["title"].take(pa.array(places)), texts]
    return len(batch), pa.RecordBatch.from_arrays(columns, schema=PASSAGE.arrow_schema)
