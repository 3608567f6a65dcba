import hashlib
import itertools
import json
from pathlib import Path

import pytest
import sample_packages
from datasets import load_from_disk
from PIL import Image

from vlret.data.articles import import_articles
from vlret.data.passages import split
from vlret.data.questions import import_questions
from vlret.data.relevance import judge, normalise
from vlret.data.sample import PHRASINGS, build, entity_id
from vlret.data.sample_facts import KINDS
from vlret.files import InputError, read_jsonl
from vlret.runs import read_qrels
from vlret.settings import SPLITS, Passages, Sample, Split

SETTINGS = Sample(articles=8, images_per_entity=3, image_size=64, split=Split(train=0.4, validation=0.3, test=0.3))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return sample_packages.make(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def raw(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "raw"
    build(**packages, settings=SETTINGS, seed=0, out=out)
    return out


def records(path: Path) -> list[dict]:
    return [record for _, record in read_jsonl(path)]


def questions(raw: Path) -> dict[str, list[dict]]:
    return {name: records(raw / f"{name}.jsonl") for name in SPLITS}


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_sample_holds_every_country_and_as_many_articles_as_asked_for(raw: Path):
    titles = [record["wikipedia_title"] for record in records(raw / "wikipedia.jsonl")]
    # E has the flag of A and fewer facts, so it is an article like any other.
    assert {"Aland", "Bland", "Cland (country)", "Dland"} <= set(titles)
    assert len(titles) == len(set(titles)) == 8
    assert titles == sorted(titles)


def test_no_country_is_in_two_splits_and_those_without_questions_in_none(raw: Path):
    countries = {name: {record["meta"]["country"] for record in rows} for name, rows in questions(raw).items()}
    assert all(not countries[a] & countries[b] for a, b in itertools.combinations(SPLITS, 2))
    assert sorted(set.union(*countries.values())) == ["AA", "BB", "CC"]
    assert all(countries.values())


def test_two_phrasings_a_kind_are_the_same_for_all_and_name_no_country(raw: Path):
    assert tuple(PHRASINGS) == KINDS
    assert len(set(itertools.chain(*PHRASINGS.values()))) == 2 * len(KINDS)
    for rows in questions(raw).values():
        for record in rows:
            phrasing = PHRASINGS[record["meta"]["kind"]][record["meta"]["phrasing"]]
            assert record["input"] == phrasing.format("the country with this flag")
            assert "land" not in record["input"]
            assert "land" in record["original_question"]


def test_records_have_the_fields_of_viquae(raw: Path):
    every = [record for rows in questions(raw).values() for record in rows]
    for record in every:
        assert {"id", "input", "original_question", "image", "url", "wikidata_id", "kilt_id", "output"} <= set(record)
        assert len(bytes.fromhex(record["id"])) == 16
        assert record["output"]["original_answer"] == record["output"]["answer"][0]
    assert len({record["id"] for record in every}) == len({record["kilt_id"] for record in every}) == len(every)
    first = next(record for record in every if record["kilt_id"] == "aa-official-name-0")
    assert first["url"] == "https://en.wikipedia.org/wiki/Aland"
    assert first["wikidata_id"] == entity_id("Aland")
    assert first["output"] == {
        "original_answer": "Republic of Aland",
        "answer": ["Republic of Aland"],
        "provenance": [{"title": ["Aland"]}],
    }


def test_a_countrys_questions_show_its_photographs_in_turn_and_none_are_equal(raw: Path):
    shown = [
        record["image"] for record in itertools.chain(*questions(raw).values()) if record["meta"]["country"] == "AA"
    ]
    assert shown[:4] == ["photo-AA-0.jpg", "photo-AA-1.jpg", "photo-AA-2.jpg", "photo-AA-0.jpg"]
    photographs = sorted((raw / "images").glob("photo-*"))
    assert len(photographs) == 9
    assert len({Image.open(path).tobytes() for path in photographs}) == 9


def test_an_article_shows_its_flag_or_the_emoji_of_its_name_or_nothing(packages: dict[str, Path], tmp_path: Path):
    build(**packages, settings=SETTINGS.model_copy(update={"articles": 10}), seed=0, out=tmp_path / "raw")
    images = {record["wikipedia_title"]: record["image"] for record in records(tmp_path / "raw" / "wikipedia.jsonl")}
    assert len(images) == len(sample_packages.ARTICLES)
    assert images["Aland"] == "flag-AA.png"
    assert images["Cat"] == "emoji-1F408.png"
    assert images["Tea"] is images["Eland"] is None
    assert Image.open(tmp_path / "raw" / "images" / "flag-AA.png").size == (64, 64)
    named = {name for name in images.values() if name}
    assert {path.name for path in (tmp_path / "raw" / "images").glob("*.png")} == named


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(packages: dict, raw: Path, tmp_path: Path):
    build(**packages, settings=SETTINGS, seed=0, out=tmp_path / "same")
    build(**packages, settings=SETTINGS, seed=1, out=tmp_path / "other")
    assert contents(tmp_path / "same") == contents(raw)
    other = contents(tmp_path / "other")
    assert other["images/photo-AA-0.jpg"] != contents(raw)["images/photo-AA-0.jpg"]
    assert other["images/flag-AA.png"] == contents(raw)["images/flag-AA.png"]


def test_every_question_of_the_sample_has_an_answer_in_a_passage(raw: Path, tmp_path: Path):
    data = tmp_path / "data"
    import_articles([raw / "wikipedia.jsonl"], {"no text": 0}, data / "articles", tmp_path / "articles.json")
    files = {name: raw / f"{name}.jsonl" for name in SPLITS}
    import_questions(
        **files,
        articles=data / "articles",
        images=raw / "images",
        link="wikidata",
        limits={"no answer": 0},
        out=data / "questions",
        report=tmp_path / "questions.json",
    )
    split(data / "articles", Passages(unit="sentence"), data / "passages")
    normalise(data / "passages", data / "normalised")
    judge(data / "questions", data / "passages", data / "normalised", data / "qrels", tmp_path / "qrels.json")
    passages = load_from_disk(str(data / "passages"))
    for name in SPLITS:
        qrels = read_qrels(data / "qrels" / f"{name}.trec")
        assert all(qrels.values())
        for record in load_from_disk(str(data / "questions"))[name]:
            for row in qrels[record["id"]]:
                assert passages[row]["article"] == record["article"]
                assert any(answer in passages[row]["text"] for answer in record["output"]["answer"])
    assert json.loads((tmp_path / "qrels.json").read_text())["test"]["no relevant passage"]["count"] == 0


@pytest.mark.parametrize("articles", [3, 11])
def test_too_few_or_too_many_articles_are_an_error_and_leave_nothing(packages: dict, tmp_path: Path, articles: int):
    settings = SETTINGS.model_copy(update={"articles": articles})
    with pytest.raises(InputError, match=rf"sample\.articles is {articles}: it must be between 4 and 10"):
        build(**packages, settings=settings, seed=0, out=tmp_path / "raw")
    assert not list(tmp_path.iterdir())
