"""The generator of published layouts: what other tests rely on."""

import gzip
import json
from pathlib import Path

from published import article, entities, viquae, wikipedia

from vlret.data.passages import body, by_tokens


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
        return [json.loads(line) for line in lines]


def test_a_longer_file_begins_with_a_shorter_ones_records_and_another_seed_has_others(tmp_path: Path):
    short, long, other = (
        read(wikipedia(tmp_path / name, (count, 1, 1), seed)[0])
        for name, count, seed in (("short", 3, 0), ("long", 9, 0), ("other", 3, 1))
    )
    assert long[:3] == short
    assert not {record["wikipedia_title"] for record in long} & {record["wikipedia_title"] for record in other}


def test_articles_make_about_eight_passages(tmp_path: Path):
    articles = [record for path in wikipedia(tmp_path, (150, 100, 20)) for record in read(path)]
    assert len({record["wikidata_info"]["wikidata_id"] for record in articles}) == 270
    assert len({record["image"] for record in articles}) == 270
    passages = [len(by_tokens(body(record["text"]["paragraph"]), 100)) for record in articles]
    assert 6.5 < sum(passages) / len(passages) < 9.5


def test_an_answer_stands_in_a_passage_of_its_article_and_no_entity_is_in_two_splits(tmp_path: Path):
    known = (40, 30, 10)
    texts = {
        record["wikidata_info"]["wikidata_id"]: body(record["text"]["paragraph"])
        for path in wikipedia(tmp_path, known)
        for record in read(path)
    }
    splits = [read(path) for path in viquae(tmp_path, (20, 10, 10), known)]
    for record in (record for split in splits for record in split):
        assert record["output"]["original_answer"] in texts[record["wikidata_id"]]
    asked = [{record["wikidata_id"] for record in split} for split in splits]
    assert sum(map(len, asked)) == len(set().union(*asked)) == 20
    assert len({record["id"] for split in splits for record in split}) == 40


def test_links_name_their_place():
    about = next(iter(next(entities(0, (1, 0, 0)))))
    record = article(0, about, "kilt")
    assert record["anchors"]
    for anchor in record["anchors"]:
        assert record["text"][anchor["paragraph_id"]][anchor["start"] : anchor["end"]] == anchor["text"]
