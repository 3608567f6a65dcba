r"""Split text into words like Lucene's StandardAnalyzer: StandardTokenizer, then LowerCaseFilter.

Boundaries follow Unicode's Annex #29 with the additions of Lucene (since 9.1, for Unicode 12.1). A word contains a
letter or digit. Ideographs, hiragana characters and emoji sequences are words of their own, and so are unspaced runs of
Thai, Lao, Khmer or Burmese. Words of more than 255 UTF-16 units are split.

There are three differences. Text is normalised to NFC first, which Lucene leaves to its users, so that one letter is
not two terms. Character properties are those of the Unicode version of `regex`, which knows newer letters. Quotation
marks join Hebrew letters wherever the annex says so; Lucene's grammar misses some chains.
"""

import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache

import regex

LONGEST = 255  # UTF-16 units, Lucene's StandardAnalyzer.DEFAULT_MAX_TOKEN_LENGTH
# Before, `re` matches possessive quantifiers wrongly (github.com/python/cpython, issues 100061 and 106052).
SOUND = sys.version_info >= (3, 11, 5)
# The rules for lower-case ASCII. Nothing follows that could make the quantifiers backtrack, so none is possessive.
ASCII = re.compile(r"[a-z0-9_]+(?:[.,:;'](?:(?<=[a-z][.:'])(?=[a-z])|(?<=[0-9][.,;'])(?=[0-9]))[a-z0-9_]+)*")
# `Extended_Pictographic` of Unicode 12.1: later versions drop symbols such as the sharp, which are words to Lucene.
PICTOGRAPHIC = (
    "©®‼⁉™ℹ\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u2388\u23cf\u23e9-\u23f3\u23f8-\u23faⓂ\u25aa\u25ab\u25b6\u25c0"
    "\u25fb-\u25fe\u2600-\u2605\u2607-\u2612\u2614-\u2685\u2690-\u2705\u2708-\u2712\u2714\u2716\u271d\u2721\u2728\u2733"
    "\u2734\u2744\u2747\u274c\u274e\u2753-\u2755\u2757\u2763-\u2767\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f"
    "\U0001f16c-\U0001f171\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a\U0001f1ad-\U0001f1e5\U0001f201-\U0001f20f"
    "\U0001f21a\U0001f22f\U0001f232-\U0001f23a\U0001f23c-\U0001f23f\U0001f249-\U0001f3ff\U0001f400-\U0001f53d"
    "\U0001f546-\U0001f64f\U0001f680-\U0001f6ff\U0001f774-\U0001f77f\U0001f7d5-\U0001f7ff\U0001f80c-\U0001f80f"
    "\U0001f848-\U0001f84f\U0001f85a-\U0001f85f\U0001f888-\U0001f88f\U0001f8ae-\U0001f8ff\U0001f90c-\U0001f93a"
    "\U0001f93c-\U0001f945\U0001f947-\U0001fffd"
)
CLASSES = {
    "letter": r"\p{WB=ALetter}",
    "hebrew": r"\p{WB=Hebrew_Letter}",
    "digit": r"\p{WB=Numeric}",
    "katakana": r"\p{WB=Katakana}",
    "joiner": r"\p{WB=ExtendNumLet}",
    "in_letters": r"\p{WB=MidLetter}\p{WB=MidNumLet}\p{WB=Single_Quote}",
    "in_digits": r"\p{WB=MidNum}\p{WB=MidNumLet}\p{WB=Single_Quote}",
    "mark": r"\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}",
    "alone": r"\p{Script=Han}\p{Script=Hiragana}",
    "unspaced": r"\p{Line_Break=Complex_Context}",
    "flag": r"\p{WB=Regional_Indicator}",
    "picture": PICTOGRAPHIC,
}
# Marks belong to the preceding character (WB4). No run of characters is scanned twice, for any text.
# The check of the first character and the commonest words come first only for speed.
RULES = r"""
(?= [{letter}{digit}{hebrew}{katakana}{joiner}{alone}{picture}{flag}{unspaced}\#*\u200d] )
(?: [{letter}{digit}]++ (?! [{mark}{joiner}{in_letters}{in_digits}{hebrew}] )
| {joined} (?: {part} (?: {joined} {part} )*+ (?: {joined} )?+ )?+
| {part} (?: {joined} {part} )*+ (?: {joined} )?+
| [{alone}] [{mark}]*+
| (?: (?<!\u200d) \u200d++ )?+ {image} (?: (?: \ufe0f\u200d++ | (?<=\u200d) ) {image} )*+ \ufe0f?+
| [#*] (?: (?!\u20e3) {plain} )*+ \ufe0f?+ \u20e3 {plain}*+
| (?: [{flag}] [{mark}]*+ ){{2}}
| [{unspaced}] [{unspaced}{mark}]*+ )
"""
PARTS = {
    "joined": r"[{joiner}] [{joiner}{mark}]*+",
    "part": r"""(?: (?: [{letter}] [{letter}{mark}]*+ (?: [{in_letters}] [{mark}]*+ (?=[{letter}{hebrew}]) )?+
        | [{digit}] [{digit}{mark}]*+ (?: [{in_digits}] [{mark}]*+ (?=[{digit}]) )?+
        | [{hebrew}] [{hebrew}{mark}]*+ (?: [{in_letters}] [{mark}]*+ (?=[{letter}{hebrew}])
            | ' [{mark}]*+ | " [{mark}]*+ (?=[{hebrew}]) )?+ )++
        | [{katakana}] [{katakana}{mark}]*+ )""",
    "plain": r"(?: (?![\ufe0e\ufe0f]) [{mark}] )",
    "image": r"(?: [{picture}] (?: (?![\ufe0e\ufe0f]) [{mark}] )*+ )",
}
# Runs of only joiners, which the patterns also find, are not words.
JOINER = re.compile("[_\u202f\u203f\u2040\u2054\ufe33\ufe34\ufe4d-\ufe4f\uff3f]")
JOINED = regex.compile(f"[{CLASSES['joiner']}{CLASSES['mark']}]+")


def words(text: str) -> list[str]:
    """The words of a text, in order, in NFC and lower case."""
    if text.isascii():
        text, pattern = text.lower(), ASCII
    else:
        # Java lower-cases single characters; Python maps the first to two and the second to its final form.
        text = unicodedata.normalize("NFC", text).replace("İ", "i").replace("Σ", "σ").lower()
        pattern = _rules(_units(text) > len(text))
    found = pattern.findall(text)
    if max(map(len, found), default=0) > LONGEST // 2:
        found = [piece for word in found for piece in _cut(word, pattern)]
    return [word for word in found if not JOINED.fullmatch(word)] if JOINER.search(text) else found


def _cut(word: str, pattern: re.Pattern | regex.Pattern) -> Iterator[str]:
    """Split a word by applying the rules to at most `LONGEST` units at a time."""
    start = 0
    while start < len(word):
        end = start + LONGEST
        while _units(word[start:end]) > LONGEST:
            end -= 1
        match = pattern.match(word, start, end)
        if match:
            yield match[0]
        start = match.end() if match else start + 1


def _units(text: str) -> int:
    """The number of UTF-16 units of a text."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@cache
def _rules(astral: bool) -> re.Pattern | regex.Pattern:
    """The rules as a pattern for any text, or without `astral` a fast one for characters up to U+FFFF."""
    if astral or not SOUND:
        return regex.compile(_filled(CLASSES), regex.VERBOSE)
    return re.compile(_filled({name: _ranges(members) for name, members in CLASSES.items()}), re.VERBOSE)


def _filled(classes: Mapping[str, str]) -> str:
    parts = {name: part.format(**classes) for name, part in PARTS.items()}
    return RULES.format(**classes, **parts)


def _ranges(members: str) -> str:
    """A class up to U+FFFF as ranges, which `re` turns into a table; U+FFFF, no character, if it is empty."""
    every = "".join(map(chr, range(0x10000)))
    runs = (found.span() for found in regex.finditer(f"[{members}]++", every))
    return "".join(f"\\u{start:04x}-\\u{end - 1:04x}" for start, end in runs) or "\\uffff"
