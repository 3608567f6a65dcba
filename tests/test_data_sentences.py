import random
import re
import unicodedata
from itertools import pairwise

import pytest
from parity import load

from vlret.data.sentences import END_MARKS, sentences, tokens

PARITY = load("passages")


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in tokens(text)]


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


def by_definition(text: str) -> list[tuple[str, int]]:
    """Sentences token by token: one begins at the first token after an end mark that is no punctuation."""
    found, group, ended = [], [], False
    for start, end in tokens(text):
        token = text[start:end]
        other = token not in END_MARKS and not all(unicodedata.category(letter)[0] == "P" for letter in token)
        if ended and other:
            found, group, ended = [*found, group], [], False
        group, ended = [*group, (start, end)], ended or token in END_MARKS
    return [(text[group[0][0] : group[-1][1]], len(group)) for group in [*found, group] if group]


def test_sentences_are_those_of_the_definition_whatever_the_white_space():
    draw = random.Random(0)
    words = "a Bc . , 's ( ) ... $ 5 km - é 東 \" n't ! ? cannot U.S. word e.g. J. ” … – . ' / 12a.m. AB x. º m²"
    pieces = words.split()
    pieces += [" "] * 30 + ["  ", "\n", "\t", "\u00a0", "\u3000", "\x1c", "\n\n"] * 2
    for _ in range(4000):
        text = "".join(draw.choices(pieces, k=draw.randrange(40)))
        assert sentences(text) == by_definition(text)


def test_words_beyond_those_remembered_are_read_alike(monkeypatch: pytest.MonkeyPatch):
    text = " ".join(f"word{number}. Next" for number in range(50))
    expected = by_definition(text)
    monkeypatch.setattr("vlret.data.sentences.REMEMBERED", 7)
    assert sentences(text) == sentences(text) == expected


def test_no_character_is_lost_or_doubled_in_any_text():
    draw = random.Random(0)
    pieces = [
        "a",
        "Bc",
        ".",
        ",",
        " ",
        "  ",
        "\n",
        "'s",
        "(",
        ")",
        "...",
        "$",
        "5",
        "km",
        "-",
        "é",
        "東",
        '"',
        "n't",
        "!",
    ]
    for _ in range(500):
        text = "".join(draw.choices(pieces, k=draw.randrange(1, 30)))
        assert re.sub(r"\s", "", "".join(words(text))) == re.sub(r"\s", "", text)
        spans = tokens(text)
        assert all(start < end for start, end in spans)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
        assert sum(count for _, count in sentences(text)) == len(spans)
