"""English tokens and sentences by rule, as spaCy's blank English pipeline with its `sentencizer` finds them.

meerqat (and so ViQuAE and cvlp) measures passages in spaCy tokens and never parts a sentence, so these rules decide
what a passage is. The algorithm is spaCy's (`Tokenizer`, `Sentencizer`, `lang/en`, `lang/char_classes.py`): cut at
white space, take affixes off each piece unless what is left is a known exception, then cut at infixes. Left out of
its lists: emoticons, URLs, contractions without apostrophe, and the rarer units.
"""

import re
import unicodedata
from functools import lru_cache

END_MARKS = frozenset("!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡。")

PUNCTUATION = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
CURRENCY = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K %"
)
HYPHENS = "-–—~"

CLITICS = "'s 'S ’s ’S"
CONTRACTIONS = {
    "n't": "ai are ca could dare did does do had has have is may might must need ought sha should was were wo would",
    "'d": "he how i it she that there they we what when where who why you",
    "'ll": "he how i it she that there they we what when where who why you",
    "'ve": "could i might must should they we what where who would you",
    "'re": "how there they we what when where who why you",
    "'m": "i",
}
ABBREVIATIONS = """
Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans.
Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep.
Sept. Tenn. Va. Wash. Wis. 'd a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr.
Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. ä. ö. ü. 'S 's ’S ’s '' C++
"""


def _exceptions() -> dict[str, tuple[str, ...]]:
    """Pieces that are not cut by the affix rules, with their tokens."""
    table = {word: (word,) for word in ABBREVIATIONS.split()}
    table |= {f"{letter}.": (f"{letter}.",) for letter in "abcdefghijklmnopqrstuvwxyz"}
    for ending, stems in CONTRACTIONS.items():
        for stem in stems.split():
            for cased in {stem, stem.capitalize()} - ({"i"} if stem == "i" else set()):
                for mark in "'’":
                    tail = ending.replace("'", mark)
                    table[cased + tail] = (cased, tail)
    table |= {word: (word[:-3], word[-3:]) for word in ("cannot", "Cannot")}
    for hour in range(1, 13):
        table |= {f"{hour}{half}": (str(hour), half) for half in ("a.m.", "am", "p.m.", "pm")}
    return table


EXCEPTIONS = _exceptions()


def _letters(*categories: str) -> str:
    """Letters of the given Unicode categories in the basic plane, as the inside of a character class."""
    codes = [code for code in range(0x10000) if unicodedata.category(chr(code)) in categories]
    ends = [code for code, after in zip(codes, [*codes[1:], 0], strict=True) if after != code + 1]
    starts = [code for code, before in zip(codes, [0, *codes[:-1]], strict=True) if before != code - 1]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(starts, ends, strict=True))


def _any(characters: str) -> str:
    return "[" + re.escape(characters) + "]"


UPPER, LOWER, LETTER = _letters("Lu", "Lt", "Lo"), _letters("Ll", "Lo"), _letters("Lu", "Lt", "Ll", "Lo")
SYMBOL = f"[{_letters('So')}]"
ELLIPSES = [r"\.\.+", "…"]
QUOTED = re.escape(QUOTES + PUNCTUATION)

PREFIX = re.compile(
    "|".join(
        (
            *("§", "%", "=", "—", "–", r"\+(?![0-9])", _any(PUNCTUATION), *ELLIPSES, _any(QUOTES)),
            *(r"US\$", r"C\$", r"A\$", _any(CURRENCY), SYMBOL),
        )
    )
)
SUFFIXES = (
    *(_any(PUNCTUATION), *ELLIPSES, _any(QUOTES), SYMBOL, *CLITICS.split(), "—", "–"),
    *(r"(?<=[0-9])\+", r"(?<=°[FfCcKk])\.", rf"(?<=[0-9]){_any(CURRENCY)}"),
    *(rf"(?<=[0-9]){re.escape(unit)}" for unit in UNITS.split()),
    *(rf"(?<=[0-9{LOWER}%²\-+{QUOTED}])\.", rf"(?<=[{UPPER}][{UPPER}])\."),
)
LONGEST_SUFFIX = max(map(len, UNITS.split()))  # but for dots
SUFFIX = re.compile(f"(?:{'|'.join(SUFFIXES)})$")
INFIX = re.compile(
    "|".join(
        (
            *(*ELLIPSES, SYMBOL, r"(?<=[0-9])[+\-*^](?=[0-9-])"),
            rf"(?<=[{LOWER}{re.escape(QUOTES)}])\.(?=[{UPPER}{re.escape(QUOTES)}])",
            rf"(?<=[{LETTER}]),(?=[{LETTER}])",
            rf"(?<=[{LETTER}0-9])(?:——|---|--|{_any(HYPHENS)})(?=[{LETTER}])",
            rf"(?<=[{LETTER}0-9])[:<>=/](?=[{LETTER}])",
        )
    )
)


@lru_cache(maxsize=2**17)
def _cut(piece: str) -> tuple[str, ...]:
    """The tokens of a text without white space."""
    before: list[str] = []
    after: list[str] = []
    while piece not in EXCEPTIONS and not piece.isalpha():
        prefix, suffix = PREFIX.match(piece), _suffix(piece)
        if not prefix and not suffix:
            break
        if prefix:
            before.append(prefix.group())
            piece = piece[prefix.end() :]
            if piece in EXCEPTIONS:
                break
            suffix = _suffix(piece)
        if suffix:
            after.append(suffix.group())
            piece = piece[: suffix.start()]
    return (*before, *EXCEPTIONS.get(piece, tuple(_cut_inside(piece))), *reversed(after))


def _suffix(piece: str) -> re.Match | None:
    """The first place from which a suffix goes to the end; only dots can be many."""
    return SUFFIX.search(piece, 0 if piece.endswith("..") else max(0, len(piece) - LONGEST_SUFFIX))


def _cut_inside(piece: str) -> list[str]:
    if piece.isalpha():
        return [piece]
    tokens, offset = [], 0
    for match in INFIX.finditer(piece):
        if match.start() > 0:
            tokens += [piece[offset : match.start()], match.group()]
            offset = match.end()
    return [token for token in [*tokens, piece[offset:]] if token]


def tokens(text: str) -> list[tuple[int, int]]:
    """`(start, end)` of every token, in order. One space between words is no token, any other white space is one."""
    spans = []
    for match in re.finditer(r"\S+|\s+", text):
        start, end = match.span()
        if match.group().isspace():
            start += text[start] == " " and start > 0
            spans += [(start, end)] if end > start else []
            continue
        for token in _cut(match.group()):
            spans.append((start, start + len(token)))
            start += len(token)
    return spans


def sentences(text: str) -> list[tuple[str, int]]:
    """`(sentence, tokens in it)` in order: a sentence ends after an end mark and the punctuation that follows it.

    White space between two sentences belongs to the later one, except one space, which belongs to neither.
    """
    words = text.split(" ")
    known = list(map(WORDS.__getitem__, words))
    if words[-1][-1:].isspace() and not words[-1][0].isspace():
        known[-1] = _look(words[-1])  # at the end of a text a line feed is no irregularity
    special = [place for place, word in enumerate(known) if word.__class__ is not int]
    if IRREGULAR in (known[place] for place in special):
        words = SINGLE_SPACE.split(text)
        known = [_look(word) if WORDS[word] is IRREGULAR else WORDS[word] for word in words]
        special = [place for place, word in enumerate(known) if word.__class__ is not int]
    found: list[tuple[str, int]] = []
    start, last, count, ended, after = (0, 0), (0, 0), 0, False, 0
    for place in (*special, len(words)):
        if after < place:  # words that end no sentence, the first of which begins one after an end
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


def _between(words: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one `(word, character)` to another."""
    parts = words[start[0] : end[0] + 1]
    parts[-1] = parts[-1][: end[1]]
    parts[0] = parts[0][start[1] :]
    return " ".join(parts)


class _Words(dict):
    """What `_look` says of words that were seen, so that a text is looked at word by word at the speed of a dict.

    `IRREGULAR` stands for what begins or ends in white space, or is empty: there the text was cut at the wrong spaces.
    """

    def __missing__(self, word: str) -> "int | tuple[tuple[int, int, str], ...]":
        if not word or word[0].isspace() or word[-1].isspace():
            return IRREGULAR
        found = _look(word)
        if "\n" not in word:  # two words, the end of a paragraph and the start of the next, which hardly meet again
            if len(self) >= REMEMBERED:
                self.clear()
            self[word] = found
        return found


def _look(word: str) -> "int | tuple[tuple[int, int, str], ...]":
    """How many tokens a word has; or `(start, end, kind)` of each, if a sentence may end in it or after its first."""
    if word.isalpha() and word not in EXCEPTIONS:
        return 1
    stem, last = word[:-1], word[-1:]
    # What most words are that come with punctuation, without the regular expressions.
    if last in (",", ".") and stem.isalpha() and stem not in EXCEPTIONS and word not in EXCEPTIONS:
        if last == ",":
            return 2
        if "a" <= stem[-1] <= "z":
            return (0, len(stem), OTHER), (len(stem), len(word), MARK)
    spans = [(start, end, _kind(word[start:end])) for start, end in tokens(word)]
    whole = not spans or spans[-1][1] == len(word)
    plain = whole and all(kind is OTHER for _, _, kind in spans[:1]) and all(kind is not MARK for _, _, kind in spans)
    return len(spans) if plain else tuple(spans)


def _kind(token: str) -> str:
    if token in END_MARKS:
        return MARK
    return PUNCTUATED if all(unicodedata.category(character).startswith("P") for character in token) else OTHER


MARK, PUNCTUATED, OTHER, IRREGULAR = "end mark", "punctuation", "other", ()
SINGLE_SPACE = re.compile(r"(?<=\S) (?=\S)")
REMEMBERED = 2**18  # words, about 40 MB
WORDS = _Words()
