"""Articles cut into passages: groups of whole sentences, or one sentence each.

The rules are meerqat's `uniform_sents` with `special_fields` (ViQuAE, cvlp): the first paragraph (the title) and
headings and list items are dropped, the rest is joined without a separator, sentences are grouped greedily. The title
is a column of its own, and not part of `text`.
"""

from collections.abc import Iterator
from pathlib import Path

from datasets import Features, Value, load_from_disk

from vlret.console import progress, say
from vlret.data.sentences import sentences
from vlret.data.tables import write_table
from vlret.files import InputError

SPECIAL = ("Section::::", "BULLET::::")


def body(paragraphs: list[str]) -> str:
    """The running text of an article: no title, no headings, no list items, nothing put between paragraphs."""
    return "".join(paragraph for paragraph in paragraphs[1:] if not paragraph.startswith(SPECIAL))


def by_tokens(text: str, tokens: int) -> list[str]:
    """Passages of whole sentences, joined by a space, of at most `tokens` tokens; a longer sentence stands alone."""
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
    """One passage a sentence, without white space around it."""
    return [stripped for sentence, _ in sentences(text) if (stripped := sentence.strip())]


def split(articles: Path, settings: dict, out: Path) -> None:
    """Cut a dataset of articles into a dataset of passages; a passage's id is its row.

    `settings` are `{unit: "tokens", tokens: at most that many in a passage}` or `{unit: "sentence"}`. Columns of the
    result: `article` (int32 row of the article), `title`, `text`; passages of an article are contiguous, in order.
    An article without text has none. Raises `InputError` when no article has text.
    """
    if settings["unit"] not in ("tokens", "sentence"):
        raise InputError(f"passages.unit {settings['unit']!r} is unknown: use tokens or sentence")
    source = load_from_disk(str(articles))

    def rows() -> Iterator[dict]:
        for row, article in enumerate(progress(source, len(source), "article", "passages")):
            text = body(article["paragraphs"])
            cut = by_sentence(text) if settings["unit"] == "sentence" else by_tokens(text, settings["tokens"])
            for passage in cut:
                yield {"article": row, "title": article["title"], "text": passage}

    columns = Features({"article": Value("int32"), "title": Value("string"), "text": Value("string")})
    count = write_table(rows(), columns, out, empty=f"{articles}: no article has text, so there is no passage")
    say(f"{count} passages of {len(source)} articles")
