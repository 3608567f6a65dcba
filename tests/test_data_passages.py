from pathlib import Path

import pytest
from datasets import load_from_disk
from parity import load

from vlret.data.articles import ARTICLE
from vlret.data.passages import body, by_sentence, by_tokens, split
from vlret.data.tables import write_table
from vlret.files import InputError
from vlret.settings import Passages

PARITY = load("passages")
CASES = [case for case in PARITY["cases"] if "n" in case]


def with_title(passages: list[str], title: str | None, separator: str) -> list[str]:
    return [f"{title} {separator} {passage}" for passage in passages] if title else passages


def save(articles: list[dict], folder: Path) -> Path:
    rows = [
        {"id": str(row), "image": None, "wikidata_id": f"Q{row}", **article} for row, article in enumerate(articles)
    ]
    write_table(rows, ARTICLE, folder, empty="none")
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES, ids=[f"{case['article']}-{case['n']}-{i}" for i, case in enumerate(CASES)])
def test_passages_are_the_originals(case: dict):
    paragraphs = PARITY["articles"][case["article"]]["paragraphs"]
    text = body(paragraphs) if case["preprocessing_method"] == "special_fields" else "".join(paragraphs)
    separator = case.get("sep_token", PARITY["collection"]["sep_token"])
    assert with_title(by_tokens(text, case["n"]), case["title"], separator) == case["passages"]


@pytest.mark.parity
@pytest.mark.parametrize("collection", [PARITY["collection"], load("passages_viquae_sep")["collection"]])
def test_a_split_collection_is_the_originals(collection: dict, tmp_path: Path):
    articles = save(PARITY["articles"], tmp_path / "articles")
    split(articles, Passages(tokens=collection["n"]), tmp_path / "passages")
    passages = load_from_disk(str(tmp_path / "passages"))
    separator = collection["sep_token"]
    assert passages["article"] == collection["index"]
    assert [f"{row['title']} {separator} {row['text']}" for row in passages] == collection["passage"]


def test_a_sentence_longer_than_a_passage_stands_alone():
    long = "one two three four five six seven."
    assert by_tokens(f"Ann ran. {long} Bob sat. Eve ate.", 6) == ["Ann ran.", long, "Bob sat. Eve ate."]


def test_one_sentence_each_has_no_white_space_around_it_and_is_never_blank():
    assert by_sentence("First one.\nSecond one.  \n\n") == ["First one.", "Second one."]


def test_sentences_of_a_dataset(tmp_path: Path):
    articles = [
        {"title": "A", "paragraphs": ["A\n", "One is here. Two is too.\n", "Section::::S\n", "Three.\n"]},
        {"title": "B", "paragraphs": ["B\n"]},
        {"title": "C", "paragraphs": ["C\n", "Four."]},
    ]
    split(save(articles, tmp_path / "articles"), Passages(unit="sentence"), tmp_path / "passages")
    rows = load_from_disk(str(tmp_path / "passages")).to_list()
    assert [(row["article"], row["title"], row["text"]) for row in rows] == [
        (0, "A", "One is here."),
        (0, "A", "Two is too."),
        (0, "A", "Three."),
        (2, "C", "Four."),
    ]


def test_no_text_at_all_is_an_error_and_leaves_nothing(tmp_path: Path):
    articles = save([{"title": "A", "paragraphs": ["A\n"]}], tmp_path / "articles")
    with pytest.raises(InputError, match="no article has text"):
        split(articles, Passages(unit="sentence"), tmp_path / "passages")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["articles"]
