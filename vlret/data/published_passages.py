"""Published passages (`title [SEP] text` with the row of the article), used instead of cutting articles.

Their row numbers are the passage ids of the published runs and judgements.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from datasets import load_from_disk

from vlret.console import progress, say
from vlret.data.own import known_as
from vlret.data.passages import PASSAGE
from vlret.data.records import Record, RecordError, read_records, taken
from vlret.data.tables import write_table

SEPARATOR = " [SEP] "


def import_passages(passages: list[Path], articles: Path, out: Path) -> None:
    """Read published passages into a table like that of `vlret.data.passages.split`: `article`, `title`, `text`.

    Parameters
    ----------
    passages
        Files for `vlret.data.records.read_records`, with the fields `passage` and `index`.
    articles
        The table of articles, in the order to which `index` refers.
    out
        The table to write.

    Raises
    ------
    InputError
        For a passage that does not begin with its article's title, an index out of range, passages not in the order of
        the articles, and if there is none.
    """
    titles = load_from_disk(str(articles)).data.column("title").to_pylist()

    def rows() -> Iterator[dict]:
        for row, error in read_passages(passages, titles):
            if error:
                raise error
            yield row

    count = write_table(rows(), PASSAGE, out, empty=no_passage(passages))
    say(f"{count} passages of {len(titles)} articles")


def read_passages(
    passages: Iterable[Path], titles: list[str]
) -> Iterator[tuple[dict, None] | tuple[None, RecordError]]:
    """Yield each record's row, or its error."""
    before = 0
    for record in progress(read_records(passages), None, "passage", "passages"):
        try:
            row = taken(partial(_passage, titles=titles, before=before), record)
        except RecordError as error:
            yield None, error
        else:
            yield row, None
            before = row["article"]


def no_passage(passages: Iterable[Path]) -> str:
    """The message for files without a passage."""
    return f"{', '.join(str(known_as(path)) for path in passages)}: no passage in these files"


def _passage(record: Record, titles: list[str], before: int) -> dict:
    article = _article(record, len(titles), before)
    prefix, passage = titles[article] + SEPARATOR, record.get("passage", str)
    if not passage.startswith(prefix):
        raise RecordError(
            f"{record.place}: field 'passage' begins with {passage[:40]!r}, but article {article} is "
            f"{titles[article]!r}; import the articles in the order of the published ones"
        )
    return {"article": article, "title": titles[article], "text": passage[len(prefix) :]}


def _article(record: Record, articles: int, before: int) -> int:
    index = record.get("index", int)
    if not 0 <= index < articles:
        raise RecordError(f"{record.place}: field 'index' is {index}, but there are {articles} articles")
    if index < before:
        raise RecordError(f"{record.place}: field 'index' is {index} after {before}, expected the articles' order")
    return index
