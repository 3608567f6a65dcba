"""spaCy's blank English pipeline with its sentencizer, and texts on which rules for tokens differ if they can."""

import random

import spacy

from vlret.data.english import CURRENCY, EXCEPTIONS, PUNCTUATION, QUOTES, UNITS

WORDS = "a b I Bc NATO The end Next word words über Été λόγος Жук жук don can That It x y s S 'm n't 've U.S. J. e.g. km"
NUMBERS = "0 1 2 5 12 42 1990 1,234 3.14 2.0. 10% 1/2 ½ ² ³ ٣ १२ 5km 5km2 7m² 20°C 300°F. 90° 12a.m. 5pm 3M £5 US$ 9US$ №"
SYMBOLS = "° © ® ™ … …… .. ... . , ; : ! ? ?! / \\ | + - – — -- --- —— ~ ^ * = < > _ # & % ‰ § @ · ′ ″ ⁄ → ♥ ☀ 😀 🪐 🇫🇷 𝄞"
SCRIPTS = "東京 は。 、 「 」 ー 한국 ไทย कि हिन्दी। বাংলা தமிழ் العربية ، ؟ ۔ كم م² עברית׃ አማርኛ። 𠀀 𞺀 🈁 🉐 é ñ ̈ ́ ︎ ‍ ªº ǅ ʔ ß Ⅷ ⓐ ㈱ ﬁ Ａ"
ADDRESSES = (
    "http://a.com/b?c=d. https://www.example.org/~x, www.bbc.co.uk me@host.com x.y@z.org: a.b.c. ftp://10.0.0.1/ 8.8.8.8 "
    "192.168.1.1:80 localhost:8080 //a @handle #tag mailto:a@b.fr .com é.fr a_b.net a-b.de/? end.Next U.K.-based .net, C#"
)
SPACES = [" ", " ", " ", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u2009", "\x1c", " \n", "\n\n"]
OTHERS = [*CURRENCY, *PUNCTUATION, *QUOTES, "\u0301", "\u200d", "\ufe0f", "\u2028", "\u0085", "\u061c"]


def pipeline() -> spacy.Language:
    """What meerqat splits passages with."""
    made = spacy.blank("en")
    made.add_pipe("sentencizer")
    return made


def sentences(of: spacy.Language, text: str) -> list[tuple[str, int]]:
    """`(sentence, tokens in it)`, as `vlret.data.sentences.sentences` gives them."""
    return [(sentence.text, len(sentence)) for sentence in of(text).sents]


def texts(count: int, seed: int) -> list[str]:
    """Strings of up to 30 pieces of every kind, in words of three pieces on average."""
    draw = random.Random(seed)
    listed = [WORDS, NUMBERS, SYMBOLS, SCRIPTS, ADDRESSES, UNITS]
    kinds = [*(kind.split() for kind in listed), list(EXCEPTIONS), OTHERS]

    def piece() -> str:
        return draw.choice(SPACES) if draw.random() < 0.25 else draw.choice(draw.choice(kinds))

    return ["".join(piece() for _ in range(draw.randrange(1, 31))) for _ in range(count)]
