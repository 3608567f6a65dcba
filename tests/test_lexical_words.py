"""Words against Lucene's output for the same texts, and against a plain version of the rules."""

import random
import re
import unicodedata

import pytest

from vlret.lexical.index import analyse
from vlret.lexical.words import ASCII, JOINED, LONGEST, _rules, words

# Texts of Lucene's TestStandardAnalyzer (9.1, Unicode 12.1) and the expected words, space-separated.
LUCENE_TESTS = {
    "(4,600` հայերեն վիքիպեդիայում) կայքը։": "4,600 հայերեն վիքիպեդիայում կայքը",
    "ዊኪፔድያ (ኢንሳይክሎፒዲያ) ነው። ማንኛውም": "ዊኪፔድያ ኢንሳይክሎፒዲያ ነው ማንኛውም",
    'يسمى "الحقيقة بالأرقام: قصة ويكيبيديا" (Truth in Numbers)، في 2008.': (
        "يسمى الحقيقة بالأرقام قصة ويكيبيديا Truth in Numbers في 2008"
    ),
    'ܒܠܫܢ̈ܐ ܣܓܝܐ̈ܐ܂ ܕ"ܘܝܩܝ"': "ܒܠܫܢ̈ܐ ܣܓܝܐ̈ܐ ܕ ܘܝܩܝ",
    "অলাভজনক সংস্থা)। ২০০১ সালে। ২০০টিরও": "অলাভজনক সংস্থা ২০০১ সালে ২০০টিরও",
    "دانشنامهٔ تخصصی ۱۳۷۹ به": "دانشنامهٔ تخصصی ۱۳۷۹ به",
    "λογισμικό wiki, κάτι που": "λογισμικό wiki κάτι που",
    "การที่ได้ต้องแสดงว่างานดี. แล้วเธอจะไปไหน? ๑๒๓๔": "การที่ได้ต้องแสดงว่างานดี แล้วเธอจะไปไหน ๑๒๓๔",
    "ສາທາລະນະລັດ ປະຊາທິປະໄຕ": "ສາທາລະນະລັດ ປະຊາທິປະໄຕ",
    "སྣོན་མཛོད་དང་ལས་འདིས། །": "སྣོན མཛོད དང ལས འདིས",
    "我是中国人。 １２３４ Ｔｅｓｔｓ ": "我 是 中 国 人 １２３４ Ｔｅｓｔｓ",
    "": "",
    ".": "",
    "moͤchte": "moͤchte",
    "B2B": "B2B",
    "some-dashed-phrase": "some dashed phrase",
    "dogs,chase,cats": "dogs chase cats",
    "ac/dc": "ac dc",
    "O'Reilly's": "O'Reilly's",
    "you're": "you're",
    "21.35": "21.35",
    "R2D2 C3PO": "R2D2 C3PO",
    "216.239.63.104": "216.239.63.104",
    "foo      bar .  FOO <> BAR": "foo bar FOO BAR",
    '"QUOTED" word': "QUOTED word",
    "안녕하세요 한글입니다": "안녕하세요 한글입니다",
    "𩬅艱鍟䇹愯瀛": "𩬅 艱 鍟 䇹 愯 瀛",
    "仮名遣い カタカナ": "仮 名 遣 い カタカナ",
    "さ\u3099": "さ\u3099",
    "壹\u3099": "壹\u3099",
    "아\u3099": "아\u3099",
    "A:B": "A:B",
    "A::B": "A B",
    "1.2": "1.2",
    "1..2": "1 2",
    "1,2": "1,2",
    "1,,2": "1 2",
    "A.:B": "A B",
    "1,.2": "1 2",
    "A:B_A::B": "A:B_A B",
    "1.2_1..2": "1.2_1 2",
    "A.B_A.B": "A.B_A.B",
    "3_1.,2": "3_1 2",
    "💩 💩💩": "💩 💩 💩",
    "👩\u200d❤\ufe0f\u200d👩": "👩\u200d❤\ufe0f\u200d👩",
    "👨🏼\u200d⚕\ufe0f": "👨🏼\u200d⚕\ufe0f",
    "🇺🇸🇺🇸": "🇺🇸 🇺🇸",
    "#\ufe0f⃣": "#\ufe0f⃣",
    "3\ufe0f⃣": "3\ufe0f⃣",
    "#\ufe0e": "",
    "3\ufe0e": "3\ufe0e",
    "⭕\ufe0e\u200d⭕\ufe0e": "⭕ \u200d⭕",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f": (
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    ),
    "poo💩poo": "poo 💩 poo",
    "💩中國💩": "💩 中 國 💩",
}
# Output of Lucene 8.7's StandardTokenizer.
LUCENE_OUTPUTS = {
    "can't U.S.A. foo_bar 1:2 x;y 1;2 a._b": "can't U.S.A foo_bar 1 2 x y 1;2 a _b",
    "_ __ _a_ _1": "_a_ _1",
    "rock ’n’ roll, L’Étoile": "rock n roll L’Étoile",
    "C♯ and B♭, £50, 90°, −3": "C ♯ and B ♭ 50 90 3",
    "Windows™ © 2001": "Windows ™ © 2001",
    "km² ½ XXᵉ": "km XXᵉ",
    "यह एक हिन्दी का वाक्य है।": "यह एक हिन्दी का वाक्य है",
    "ไทยดี ดี": "ไทยดี ดี",
    "のカタカナー漢字": "の カタカナー 漢 字",
    "カタカナabc カタカナ_abc": "カタカナ abc カタカナ_abc",
    'אב"ג ד\' א" x': "אב\"ג ד' א x",
    "٣٫١٤": "٣٫١٤",
    "soft\u00adhyphen": "soft\u00adhyphen",
    "10\u202f000": "10\u202f000",
    "🇩🇪🇫 🇩": "🇩🇪",
    "\u0301a": "a",
    "*⃣ 1⃣": "*⃣ 1⃣",
    "𐐀𐐁 漢𐐀": "𐐀𐐁 漢 𐐀",
}


def lower(text: str) -> str:
    """Lower-case and normalise to NFC, one character at a time."""
    return "".join(map(str.lower, unicodedata.normalize("NFC", text)))


@pytest.mark.parametrize("text", [*LUCENE_TESTS, *LUCENE_OUTPUTS])
def test_words_equal_lucenes(text):
    expected = {**LUCENE_TESTS, **LUCENE_OUTPUTS}[text]
    assert words(text) == [lower(word) for word in expected.split(" ") if word]


@pytest.mark.parametrize("text", [text for text in [*LUCENE_TESTS, *LUCENE_OUTPUTS] if text])
def test_an_astral_character_does_not_change_other_words(text):
    beside = f"{text} 𐐨"
    assert words(beside) == [*words(text), "𐐨"]


def test_lower_casing_is_per_character_and_text_is_normalised():
    assert words("İstanbul ΟΔΟΣ Ⅷ") == ["istanbul", "οδοσ", "ⅷ"]  # as in Lucene 8.7
    assert words("E\u0301TE\u0301") == words("été") == ["été"]


def test_long_words_are_split_like_lucene():
    # The first is from its tests, the others are output of Lucene 8.7.
    assert LONGEST == 255
    assert words(f"x {'b' * 255} {'b' * 256}") == ["x", "b" * 255, "b" * 255, "b"]
    assert words("é" * 300) == ["é" * 255, "é" * 45]
    assert words("𐐨" * 200) == ["𐐨" * 127, "𐐨" * 73]
    assert words(f"{'a' * 254}.b") == ["a" * 254, "b"]
    assert words("ไ" * 256) == ["ไ" * 255, "ไ"]


def test_the_fast_ascii_pattern_and_the_rules_agree():
    draw = random.Random(0)
    for _ in range(20000):
        text = "".join(draw.choices("ab19_.:',;\" -#*", k=draw.randint(1, 12)))
        found = [[word for word in pattern.findall(text) if not JOINED.fullmatch(word)] for pattern in patterns()]
        assert found[0] == found[1] == found[2] == words(text), text


def patterns() -> list[re.Pattern]:
    return [ASCII, _rules(False), _rules(True)]


@pytest.mark.parametrize(
    "unit", ["_", "_\u0301", "\u200d", "\u200d\ufe0f", "#\u0301", "a'", 'א"', "1,", "🇦\u0301", "_é"]
)
def test_matching_takes_linear_time(unit):
    # Rescanning at every character would take 10^10 steps and never end.
    assert len(words(unit * 100_000 + "é")) >= 1
    assert len(words(unit * 100_000 + "𐐨")) >= 1


def test_stop_words_and_stems_apply_to_words():
    assert analyse("The sea's end, can't", {"the", "can't"}) == ["sea's", "end"]
