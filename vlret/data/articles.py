"""Articles as published (KILT's knowledge base, ViQuAE's with images) to Arrow, every record checked."""

from collections.abc import Iterator
from pathlib import Path

from datasets import Features, List, Value

from vlret.console import progress, say
from vlret.data.records import Problems, Record, Unique, read_records
from vlret.data.tables import write_table
from vlret.files import write_json

ARTICLE = Features(
    {
        "id": Value("string"),
        "title": Value("string"),
        "paragraphs": List(Value("string")),
        "image": Value("string"),
        "wikidata_id": Value("string"),
        "type": Value("string"),
    }
)
ARTICLE_PROBLEMS = ("no text", "no image")


def import_articles(wikipedia: list[Path], limits: dict, out: Path, report: Path) -> None:
    """Read knowledge base files (JSON lines, KILT fields plus `image`) in order to one dataset of articles.

    Columns: `id` (`wikipedia_id`), `title`, `paragraphs` (as published, the first is the title), `image` (file name
    or null), `wikidata_id`, `type` (what kind of thing it is about, such as `country`; null where a record has no such
    field, as in KILT's knowledge base and ViQuAE's). Kinds for `limits`: `no text` (the article is kept), `no image`.
    Raises `InputError` for a malformed line, a missing or mistyped field, an `id` or `wikidata_id` that stands twice,
    and when there is no article at all.
    """
    names = ", ".join(map(str, wikipedia))
    problems = Problems(ARTICLE_PROBLEMS, limits)
    ids, entities = Unique("wikipedia_id"), Unique("wikidata_info.wikidata_id")

    def rows() -> Iterator[dict]:
        for record in progress(read_records(wikipedia), None, "article", "articles"):
            row = _article(record)
            ids.add(row["id"], record)
            entities.add(row["wikidata_id"], record)
            if not any(paragraph.strip() for paragraph in row["paragraphs"][1:]):
                problems.add("no text", row["title"])
            if row["image"] is None:
                problems.add("no image", row["title"])
            yield row
        problems.check(names)

    count = write_table(rows(), ARTICLE, out, empty=f"{names}: the knowledge base is empty")
    write_json(report, {"articles": count, **problems.report()})
    say(f"{count} articles: {problems}")


def _article(record: Record) -> dict:
    entity = record.get("wikidata_info.wikidata_id", str, None) or record.text("wikidata_id")
    return {
        "id": record.text("wikipedia_id"),
        "title": record.text("wikipedia_title"),
        "paragraphs": record.texts("text.paragraph"),
        "image": record.get("image", str, None) or None,
        "wikidata_id": entity,
        "type": record.get("type", str, None) or None,
    }
