"""spaCy's blank English pipeline with its sentencizer, and texts on which rules for tokens differ if they can."""

import random

import spacy
from spacy.tokens import Doc

from vlret.data.english import CURRENCY, END_MARKS, EXCEPTIONS, PUNCTUATION, QUOTES, UNITS

PIECES = [  # of a kind each
    "a b I Bc NATO The end Next word über Été λόγος Жук жук don can That It x y s S 'm n't 've U.S. J. e.g. km theses",
    "0 1 2 5 12 42 1990 1,234 3.14 2.0. 10% 1/2 ½ ² ³ ٣ १२ 5km 5km2 7m² 20°C 300°F. 90° 12a.m. 5pm 3M £5 US$ 9US$ №",
    "° © ® ™ … …… .. ... . , ; : ! ? ?! / \\ | + - – — -- --- —— ~ ^ * = < > _ # & % ‰ § @ · ′ ⁄ → ♥ ☀ 😀 🪐 🇫🇷 𝄞",
    "東京 は。 、 「 」 ー 한국 ไทย कि हिन्दी। বাংলা தமிழ் العربية ، ؟ ۔ كم م² עברית׃ አማርኛ። 𠀀 𞺀 🈁 🉐 é ñ",
    "ª º ǅ ʔ ß Ⅷ ⓐ ㈱ ﬁ Ａ \u0301 \u0308 \u0327 \u093f \u200d \u200b \ufe0e \ufe0f \u061c \ufffd \u3099",
    "http://a.com/b?c=d. https://www.example.org/~x, www.bbc.co.uk me@host.com x.y@z.org: a.b.c. ftp://10.0.0.1/ .com",
    "192.168.1.1:80 8.8.8.8 local:8080 //a @me #tag mailto:a@b.fr é.fr a_b.net a-b.de/? end.Next U.K.-based .net, C#",
    UNITS,
]
SPACES = [*"    \n\t", "  ", "\u00a0", "\u3000", "\u2009", "\u2028", "\u0085", "\x1c", " \n", "\n\n"]
KINDS = [*map(str.split, PIECES), list(EXCEPTIONS), [*CURRENCY, *PUNCTUATION, *QUOTES], sorted(END_MARKS)]


def pipeline() -> spacy.Language:
    """What meerqat splits passages with."""
    made = spacy.blank("en")
    made.add_pipe("sentencizer")
    return made


def tokens(doc: Doc) -> list[tuple[int, str]]:
    """As `vlret.data.sentences.tokens` gives them."""
    return [(token.idx, token.text) for token in doc]


def sentences(doc: Doc) -> list[tuple[str, int]]:
    """As `vlret.data.sentences.sentences` gives them."""
    return [(sentence.text, len(sentence)) for sentence in doc.sents]


def texts(count: int, seed: int, kinds: list[list[str]] = KINDS) -> list[str]:
    """Strings of up to 30 pieces of the given kinds, each as likely, but a quarter of them white space."""
    draw = random.Random(seed)

    def piece() -> str:
        return draw.choice(SPACES) if draw.random() < 0.25 else draw.choice(draw.choice(kinds))

    return ["".join(piece() for _ in range(draw.randrange(1, 31))) for _ in range(count)]
