"""English tokens and sentences, exactly as in spaCy 3.8's blank English pipeline with `sentencizer`.

meerqat (and so ViQuAE and cvlp) measures passages in these tokens, whatever the language of the articles, and never
splits a sentence. The algorithm is spaCy's (`Tokenizer`, `Sentencizer`), its rules are in `english`: split at white
space, strip affixes from each piece until the rest is an exception, split at infixes, then rejoin exceptions that were
split. spaCy 3.3.0 differs in four brackets and in contractions of `this`, `that`, `these` and `those`.
"""

import re
import unicodedata
from itertools import accumulate

from vlret.data.english import END_MARKS, EXCEPTIONS, INFIX, LONGEST_SUFFIX, PREFIX, SUFFIX, URL

Token = tuple[int, str]  # its start and text


def _cut(piece: str, exceptions: bool = True) -> tuple[str, ...]:
    """The tokens of a text without white space."""
    known = EXCEPTIONS if exceptions else {}
    before: list[str] = []
    after: list[str] = []
    while piece and piece not in known and not piece.isalpha():
        found = PREFIX.match(piece)
        prefix = found.group() if found else ""
        rest = piece[len(prefix) :]
        if prefix and rest in known:
            before.append(prefix)
            piece = rest
            break
        suffix = _suffix(rest)
        stem = piece[: len(piece) - len(suffix)]
        if suffix and stem in known:
            after.append(suffix)
            piece = stem
            break
        if not prefix and not suffix:
            break
        before += [prefix] if prefix else []
        after += [suffix] if suffix else []
        piece = stem[len(prefix) :]
    return (*before, *(known.get(piece) or _cut_inside(piece)), *reversed(after))


def _suffix(piece: str) -> str:
    """The longest suffix, or an empty string; only dots can be longer than `LONGEST_SUFFIX`."""
    found = SUFFIX.search(piece, 0 if piece.endswith("..") else max(0, len(piece) - LONGEST_SUFFIX))
    return found.group() if found else ""


def _cut_inside(piece: str) -> list[str]:
    """The tokens of a piece without affixes, which cannot begin or end with an infix."""
    if piece.isalpha() or ("." in piece and URL.fullmatch(piece)):
        return [piece]
    return [token for token in INFIX.split(piece) if token]


def _parted() -> dict[str, list[tuple[str, ...]]]:
    """The parts of those exceptions that the rules would split, by first part."""
    table: dict[str, list[tuple[str, ...]]] = {}
    for word in EXCEPTIONS:
        parts = _cut(word, exceptions=False)
        if len(parts) > 1:
            table.setdefault(parts[0], []).append(parts)
    return table


PARTED = _parted()
BEFORE_A_PART = {part for group in PARTED.values() for parts in group for part in parts[:-1]}
AFTER_A_PART = {part for group in PARTED.values() for parts in group for part in parts[1:]}


def tokens(text: str) -> list[Token]:
    """`(start, token)` of every token, in order. White space is a token, except for one space between words."""
    apart = _apart(text)
    exceptions = _joined(text, apart)
    found, place = [], 0
    for first, end, word in exceptions:
        found += apart[place:first] + _placed(apart[first][0], EXCEPTIONS[word])
        place = end
    return found + apart[place:]


def _apart(text: str) -> list[Token]:
    """`tokens` before exceptions that the rules split are rejoined."""
    found: list[Token] = []
    for match in PIECE.finditer(text):
        start, piece = match.start(), match.group()
        if not piece.isspace():
            found += _placed(start, _cut(piece))
        elif piece[0] != " " or start == 0:
            found.append((start, piece))
        elif len(piece) > 1:
            found.append((start + 1, piece[1:]))
    return found


def _placed(start: int, words: tuple[str, ...]) -> list[Token]:
    """Consecutive tokens from position `start` on."""
    return list(zip(accumulate(map(len, words), initial=start), words, strict=False))


def _joined(text: str, apart: list[Token]) -> list[tuple[int, int, str]]:
    """`(first, end, word)` of each split exception; of overlapping ones the longest wins, then the first.

    Parts with white space between them are no exception, but still rule out overlapping ones.
    """
    taken: set[int] = set()
    exceptions = []
    for first, end in sorted(_parts([token for _, token in apart]), key=lambda part: (part[0] - part[1], part[0])):
        word = "".join(token for _, token in apart[first:end])
        if text.startswith(word, apart[first][0]) and not taken & {first, end - 1}:
            exceptions.append((first, end, word))
        taken.update(range(first, end))
    return sorted(exceptions)


def _parts(words: tuple[str, ...] | list[str]) -> list[tuple[int, int]]:
    """`(first, end)` of tokens that equal the parts of an exception; ignores white space between them."""
    if PARTED.keys().isdisjoint(words):
        return []
    return [
        (first, first + len(parts))
        for first, word in enumerate(words)
        for parts in PARTED.get(word, ())
        if tuple(words[first : first + len(parts)]) == parts
    ]


def sentences(text: str) -> list[tuple[str, int]]:
    """`(sentence, its number of tokens)` in order: a sentence ends after an end mark and the punctuation that follows.

    White space between two sentences belongs to the second, except a single space, which belongs to neither.
    """
    words, known = _known(text)
    special = [place for place, word in enumerate(known) if word.__class__ is not int]
    found: list[tuple[str, int]] = []
    start, last, count, ended, after = (0, 0), (0, 0), 0, False, 0
    for place in (*special, len(words)):
        if after < place:  # words without an end mark; after one, the first of them begins a sentence
            if ended:
                found.append((_between(words, start, last), count))
                start, count, ended = (after, 0), 0, False
            count += sum(known[after:place])
            last = place - 1, len(words[place - 1])
        for first, end, kind in known[place] if place < len(words) else ():
            if ended and kind is OTHER:
                found.append((_between(words, start, last), count))
                start, count, ended = (place, first), 0, False
            ended = ended or kind is MARK
            count, last = count + 1, (place, end)
        after = place + 1
    return [*found, (_between(words, start, last), count)] if count else found


def _known(text: str) -> tuple[list[str], list["Known"]]:
    """The words of a text, and what is known of each; words that depend on each other are joined."""
    words = text.split(" ")
    known = list(map(WORDS.__getitem__, words))
    if words[-1][-1:].isspace() and not words[-1][0].isspace():
        known[-1] = _look(words[-1])  # white space at the end of a text is regular
    if str in set(map(type, known)):
        if IRREGULAR in known:
            words = SINGLE_SPACE.split(text)
            known = [_look(word) if WORDS[word] is IRREGULAR else WORDS[word] for word in words]
        while IN_PARTS in known:
            first, end = _reach(words, known.index(IN_PARTS))
            words[first:end] = [" ".join(words[first:end])]
            known[first:end] = [_kinds(tokens(words[first]))]
    return words, known


def _reach(words: list[str], place: int) -> tuple[int, int]:
    """`(first, end)` of the words around a place whose ends no split exception can cross."""

    def together(place: int) -> bool:
        return _apart(words[place - 1])[-1][1] in BEFORE_A_PART and _apart(words[place])[0][1] in AFTER_A_PART

    first, end = place, place + 1
    while first > 0 and together(first):
        first -= 1
    while end < len(words) and together(end):
        end += 1
    return first, end


def _between(words: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one `(word, character)` to another."""
    parts = words[start[0] : end[0] + 1]
    parts[-1] = parts[-1][: end[1]]
    parts[0] = parts[0][start[1] :]
    return " ".join(parts)


class _Words(dict):
    """Caches `_look`, so that known words cost a dict lookup.

    `IRREGULAR` is the value of an empty word, or one with white space at either end: the text was split at the wrong
    spaces there.
    """

    def __missing__(self, word: str) -> "Known":
        if not word or word[0].isspace() or word[-1].isspace():
            return IRREGULAR
        found = _look(word)
        if "\n" not in word:  # otherwise the last word of a paragraph and the first of the next, a rare pair
            if len(self) >= REMEMBERED:
                self.clear()
            self[word] = found
        return found


def _look(word: str) -> "Known":
    """A word's number of tokens; its `_kinds`, if a sentence may end in it or after its first token; or `IN_PARTS`."""
    if word.isalpha() and word not in EXCEPTIONS:
        return 1
    stem, last = word[:-1], word[-1:]
    # Most words with punctuation, without regular expressions.
    if last in (",", ".") and stem.isalpha() and stem not in EXCEPTIONS and word not in EXCEPTIONS:
        if last == ",":
            return 2
        if "a" <= stem[-1] <= "z":
            return (0, len(stem), OTHER), (len(stem), len(word), MARK)
    found = _apart(word)
    parts = [token for _, token in found]
    if any(EXCEPTIONS["".join(parts[first:end])] != tuple(parts[first:end]) for first, end in _parts(parts)):
        return IN_PARTS
    whole = not found or found[-1][0] + len(parts[-1]) == len(word)
    plain = whole and END_MARKS.isdisjoint(parts) and all(_kind(token) is OTHER for token in parts[:1])
    return len(parts) if plain else _kinds(found)


def _kinds(found: list[Token]) -> tuple[tuple[int, int, str], ...]:
    """`(start, end, kind)` of tokens."""
    return tuple((start, start + len(token), _kind(token)) for start, token in found)


def _kind(token: str) -> str:
    if token.isalnum():
        return OTHER
    if token in END_MARKS:
        return MARK
    return PUNCTUATED if all(unicodedata.category(character).startswith("P") for character in token) else OTHER


Known = int | str | tuple[tuple[int, int, str], ...]
IRREGULAR = "white space"
IN_PARTS = "an exception in parts, unless the words around it keep it from being one"
MARK, PUNCTUATED, OTHER = "end mark", "punctuation", "other"
PIECE = re.compile(r"\S+|\s+")
SINGLE_SPACE = re.compile(r"(?<=\S) (?=\S)")
REMEMBERED = 2**18  # words, about 40 MB
WORDS = _Words()
