"""Pre-training data: entities of a knowledge base with several images (cvlp's wikimage and multimedia).

An entity's article gets its first image; each other image becomes a question without text about it, as tasks of kind
`match_image` and `match_article` expect.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
from datasets import Dataset, load_from_disk

from vlret.console import say
from vlret.data.articles import ARTICLE
from vlret.data.own import known_as
from vlret.data.passages import PASSAGE
from vlret.data.questions import QUESTION, rows_by_entity
from vlret.data.records import EXAMPLES, RecordError, Together, written_as
from vlret.data.tables import article_of, write_splits, write_table
from vlret.files import InputError, read_json, write_json
from vlret.settings import SPLITS, Split
from vlret.typed import typed


@typed
def build(
    articles: Path,
    passages: Path,
    images: Path,
    table: Path,
    without: list[Path] | None,
    least_passages: int,
    split: Split,
    seed: int,
    out: Path,
) -> None:
    """Write `out/articles`, `out/passages` and `out/questions`, the tables of a dataset of entities.

    Entities are split before those with few passages are dropped: with the same seed and table, those of multimedia (at
    least 2 passages) are in the same split as in wikimage (0).

    Parameters
    ----------
    articles, passages
        The knowledge base's tables.
    images
        Folder of all images of `table`; missing ones are ignored.
    table
        JSON: `wikidata_id` -> images of the entity, as file names or URLs, such as cvlp's `wikimage.json`
        (`find_images`).
    without
        Tables of questions whose entities are excluded.
    least_passages
        Entities with fewer passages are excluded.
    split
        Shares of the entities in `train`, `validation` and `test`.
    seed
        Seed of the split.
    out
        The folder to write; `out/entities.json` has the counts.

    Raises
    ------
    InputError
        For a table of another format, and a split without entities.
    """
    held = find_images(table, images)
    asked = [load_from_disk(str(path)) for path in without]
    barred = {entity for splits in asked for records in splits.values() for entity in records["wikidata_id"]}
    base = load_from_disk(str(articles))
    rows = {entity: row for entity, row in rows_by_entity(base).items() if entity in held.found}
    several = [entity for entity in rows if len(held.found[entity]) >= 2 and entity not in barred]
    places = split_entities(several, split, seed)
    cut = load_from_disk(str(passages))
    ends = np.searchsorted(article_of(passages), np.arange(len(base) + 1, dtype=np.int32))
    kept = [entity for entity in several if ends[rows[entity] + 1] - ends[rows[entity]] >= least_passages]
    counts = {name: sum(places[entity] == name for entity in kept) for name in SPLITS}
    for name, count in counts.items():
        if not count:
            raise InputError(f"{table}: none of its {len(kept)} entities is in split {name}; raise its share")
    write_splits(_questions(kept, held.found, places), QUESTION, out / "questions")
    write_table(_articles(base, kept, rows, held.found), ARTICLE, out / "articles", empty="")
    own = _passages(cut, [(ends[rows[entity]], ends[rows[entity] + 1]) for entity in kept])
    write_table(own, PASSAGE, out / "passages", empty=f"{passages}: no entity of {table} has a passage")
    report = {
        "entities": len(held.found),
        "with an article": len(rows),
        "of questions left out": sum(entity in barred for entity in rows),
        "with several images": len(several),
        "with passages enough": len(kept),
        "missing image": {"count": len(held.missing), "examples": held.missing[:EXAMPLES]},
    }
    write_json(out / "entities.json", {**report, **counts})
    sizes = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"{len(kept)} of {len(held.found)} entities: {sizes}; {len(held.missing)} images missing")


class Images(NamedTuple):
    """Images of a table: entity -> file names that exist, each once; and the missing ones."""

    found: dict[str, list[str]]
    missing: list[str]


def find_images(table: Path, images: Path) -> Images:
    """Look for the images of a table in a folder.

    A URL's file is named as by `file_of` or, if no other name in the table has the same last part, by that part, with
    or without `%20`s decoded.
    """
    found, missing = {}, []
    table, images = known_as(table), known_as(images)
    listed, read = read_json(table), Together()
    if not images.is_dir():
        raise InputError(f"{images}: no such folder of images")
    for entity, names in listed.items():
        read(_check_names, table, entity, names)
    read.check()
    there = {path.name for path in images.iterdir()}
    distinct = {re.sub("^https?://", "", name) for names in listed.values() for name in names}
    ends = Counter(_readings(name)[-1] for name in distinct)
    for entity, names in listed.items():
        files = [_file(name, there, ends) for name in names]
        missing += [name for name, file in zip(names, files, strict=True) if file is None]
        found[entity] = list(dict.fromkeys(file for file in files if file is not None))
    return Images(found, missing)


def _check_names(table: Path, entity: str, names: object) -> None:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        wrong = f"{table}: field {entity!r} is not a list of file names or addresses"
        raise RecordError(f"{wrong}{written_as(names, list)}")


def file_of(address: str) -> str:
    """The file name for a URL: its last part, and a digest of the whole, since several may end alike."""
    stem, _, suffix = _readings(address)[-1].rpartition(".")
    digest = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    parts = [re.sub(r"[^\w-]+", "_", part).encode("utf-8", "ignore") for part in (stem or suffix, suffix)]
    name = f"{parts[0][:100].decode(errors='ignore')}-{digest}"
    return f"{name}.{parts[1][:8].decode(errors='ignore')}" if stem and suffix else name


def _file(name: str, there: set[str], ends: Mapping[str, int]) -> str | None:
    """The file in the folder for a name in the table; `ends` counts the names with the same last part."""
    readings = _readings(name)
    alone = readings if ends[readings[-1]] == 1 else ()
    return next((reading for reading in (name, file_of(name), *alone) if reading in there), None)


def _readings(name: str) -> tuple[str, str, str]:
    """The last part of a URL, or a file name: unchanged, with `%20`s decoded, and with `_` for spaces as well."""
    last = re.split("[?#]", name)[0].rpartition("/")[2]
    return last, unquote(last), unquote(last).replace(" ", "_")


def split_entities(entities: Sequence[str], split: Split, seed: int) -> dict[str, str]:
    """Entity -> split, determined by the seed and the set of entities."""
    shuffled = np.random.default_rng(seed).permutation(sorted(entities))
    ends = np.rint(np.cumsum([getattr(split, name) for name in SPLITS]) * len(shuffled)).astype(int)
    return {str(entity): SPLITS[np.searchsorted(ends, at, "right")] for at, entity in enumerate(shuffled)}


def _articles(
    base: Dataset, kept: Sequence[str], rows: Mapping[str, int], images: Mapping[str, list[str]]
) -> Iterator[dict]:
    for entity, article in zip(kept, base.select([rows[entity] for entity in kept]), strict=True):
        yield {**article, "image": images[entity][0]}


def _questions(
    kept: Sequence[str], images: Mapping[str, list[str]], places: Mapping[str, str]
) -> dict[str, list[dict]]:
    """A question for each image after the first: `entity-1`, `entity-2`, …"""
    splits: dict[str, list[dict]] = {name: [] for name in SPLITS}
    nothing = {"original_answer": "", "answer": [], "provenance": []}
    for article, entity in enumerate(kept):
        for number, image in enumerate(images[entity][1:], start=1):
            row = {"id": f"{entity}-{number}", "input": "", "original_question": None, "image": image}
            splits[places[entity]].append({**row, "wikidata_id": entity, "output": nothing, "article": article})
    return splits


def _passages(cut: Dataset, ranges: Sequence[tuple[int, int]]) -> Iterator[dict]:
    """The passages of some articles, whose rows are renumbered."""
    for article, (first, end) in enumerate(ranges):
        part = cut[int(first) : int(end)]
        for title, text in zip(part["title"], part["text"], strict=True):
            yield {"article": article, "title": title, "text": text}
