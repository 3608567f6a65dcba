"""spaCy 3.8's rules for English: characters and words by which its blank pipeline finds tokens and sentences.

They restate spaCy's `lang/char_classes.py`, `lang/punctuation.py`, `lang/tokenizer_exceptions.py`, `lang/en/` and
`Sentencizer` (MIT licence); tests compare them with an installed spaCy. The URL pattern goes back to Diego Perini (gist
729294, MIT licence). Characters that look like others are written as code points.
"""

import re
import unicodedata

END_MARKS = frozenset(
    "!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡"
    "𐩖𐩗𑁇𑁈𑂾𑂿𑃀𑃁𑅁𑅂𑅃𑇅𑇆𑇍𑇞𑇟𑈸𑈹𑈻𑈼𑊩𑑋𑑌𑗂𑗃𑗉𑗊𑗋𑗌𑗍𑗎𑗏𑗐𑗑𑗒𑗓𑗔𑗕𑗖𑗗𑙁𑙂𑜼𑜽𑜾𑩂𑩃𑪛𑪜𑱁𑱂𖩮𖩯𖫵𖬷𖬸𖭄𛲟𝪈"
)

PUNCTUATION = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》\u3008\u3009\u2329\u232a\u27e6\u27e7"
CURRENCY = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
DOLLARS = (r"US\$", r"C\$", r"A\$")
UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч "
    "кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ "
    "كوب اكواب"
)  # `тбكم` is one entry in spaCy's list, which lacks a space there
CLITICS = "'s 'S ’s ’S"

NAME = r"A-Za-z0-9\u00a1-\uffff"  # characters of a host name
PRIVATE = r"(10|127)(\.\d{1,3}){3} | (169\.254|192\.168|172\.(1[6-9]|2\d|3[01]))(\.\d{1,3}){2}"

# Ranges of code points, in hexadecimal.
CASED = (  # Latin, Greek and Cyrillic letters
    "41-5A 61-7A C0-D6 D8-F6 F8-1BF 1C4-2AF 386 388-38A 38C 38E-38F 391-3A9 3AC-3AF 3B1-3C9 3CC-3CE 400-401 403-40A "
    "40C-40D 410-451 453-45A 45C-45D 490-491 496-497 4A2-4A3 4AE-4AF 4BA-4BB 4D8-4D9 4E8-4E9 1D00-1D25 1D6B-1D77 "
    "1D79-1D9A 1E00-1EFF 2C60-2C7B 2C7E-2C7F A722-A76F A771-A787 A78B-A78E A790-A7B9 A7FA AB30-AB5A AB60-AB64 "
    "FF21-FF3A FF41-FF5A"
)
UNCASED = (  # whole blocks of other scripts, with their marks, digits and punctuation
    "591-5F4 620-64A 66E-6D5 6E5-6FF 750-77F 8A0-8BD 900-9FF B80-CFF D80-DFF 1100-137F 2E80-2FDF 2FF0-30FF 31C0-31EF "
    "3200-4DBF 4E00-9FFF AC00-D7AF F900-FAFF FB1D-FBB1 FBD3-FD3D FD50-FDC7 FDF0-FDFB FE30-FE4F FE70-FEFC"
)
RARE_UNCASED = "1EE00-1EEBB 1F200-1F2FF 20000-2A6DF 2A700-2EBEF 2F800-2FA1F"
SYMBOLIC = (  # ranges with the symbols of Unicode 11 and none of later versions
    "A6-B0 482 58D-58E 60E-6FE 7F6 9FA B70 BF3-BFA C7F D4F D79 F01-F38 FBE-FCC FCE-FD8 109E-109F 1390-1399 1940 "
    "19DE-19FF 1B61-1B7C 2100-218B 2195-2426 2440-244A 249C-2B73 2B76-2B95 2B98-2BC8 2BCA-2BFE 2CE5-2CEA 2E80-2E99 "
    "2E9B-2EF3 2F00-2FD5 2FF0-2FFB 3004-303F 3190-31E3 3200-321E 322A-32FE 3300-4DFF A490-A4C6 A828-A82B A836-A839 "
    "AA77-AA79 FDFD FFE4 FFE8-FFEE FFFC-FFFD"
)
RARE_SYMBOLIC = (
    "10137-1018E 10190-1019B 101A0 101D0-101FC 10877-10878 10AC8 1173F 16B3C-16B45 1BC9C 1D000-1D0F5 1D100-1D126 "
    "1D129-1D1E8 1D200-1D245 1D300-1D356 1D800-1DA86 1ECAC 1F000-1F02B 1F030-1F093 1F0A0-1F0AE 1F0B1-1F0BF "
    "1F0C1-1F0CF 1F0D1-1F0F5 1F110-1F16B 1F170-1F1AC 1F1E6-1F202 1F210-1F23B 1F240-1F248 1F250-1F251 1F260-1F265 "
    "1F300-1F6D4 1F6E0-1F6EC 1F6F0-1F6F9 1F700-1F773 1F780-1F7D8 1F800-1F80B 1F810-1F847 1F850-1F859 1F860-1F887 "
    "1F890-1F8AD 1F900-1F90B 1F910-1F93E 1F940-1F970 1F973-1F976 1F97A 1F97C-1F9A2 1F9B0-1F9B9 1F9C0-1F9C2 "
    "1F9D0-1F9FF 1FA60-1FA6D"
)

CONTRACTIONS = {  # endings, split into tokens by |, and the words that take them, with or without apostrophes
    "'m 'm|a": "i",
    "'ll 'll|'ve 'd 'd|'ve": "i you he she it we they who what when where why how there that this these those",
    "'re": "you we they who what when where why how there these those",
    "'ve": "i you we they who what when where why how there these those could might must should would not",
    "'s": "he she it who what when where why how there that this",
    "n't": "ai are is was were have has dare",
    "n't n't|'ve": "ca could do does did had may might must need ought sha should wo would",
}
OTHER_CONTRACTIONS = "c'm|on can|not gon|na got|ta how|'d|'y let|'s"
LOWER_CONTRACTIONS = "y'|all y|all"
NO_CONTRACTIONS = "ill its hell shell shed were well whore"
WHOLE = r"""
Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans.
Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep.
Sept. Tenn. Va. Wash. Wis. a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd.
Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.
a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü.
doin doin' Doin Doin' goin goin' Goin Goin' havin havin' Havin Havin' lovin lovin' Lovin Lovin' nothin nothin' Nothin
Nothin' nuthin nuthin' Nuthin Nuthin' ol ol' Ol Ol' somethin somethin' Somethin Somethin' em 'em ll 'll nuff 'nuff
'Cause 'cause 'Cos 'cos 'Coz 'coz 'Cuz 'cuz 'bout 'd 're 's 'S ‘s ‘S ma'am Ma'am o'clock O'clock and/or w/o
' '' \") \n \t — C++ <space>
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-((
:((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o :*
:-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_- -__-
v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<)
(*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""


def _exceptions() -> dict[str, tuple[str, ...]]:
    """Words that are exempt from the rules, with their tokens."""
    contractions = [
        f"{stem}|{ending}"
        for endings, stems in CONTRACTIONS.items()
        for ending in endings.split()
        for stem in stems.split()
    ]
    contractions += [word.replace("'", "") for word in contractions] + OTHER_CONTRACTIONS.split()
    contractions = [word for word in contractions if word.replace("|", "") not in NO_CONTRACTIONS.split()]
    contractions += [word.capitalize() for word in contractions] + LOWER_CONTRACTIONS.split()
    contractions += [f"{hour}|{half}" for hour in range(1, 13) for half in ("a.m.", "am", "p.m.", "pm")]
    contractions += [f"°|{unit}|." for unit in "cfkCFK"]
    table = {word: (word,) for word in WHOLE.split()} | {
        word.replace("|", ""): tuple(word.split("|")) for word in contractions
    }
    curly = {
        word.replace("'", "’"): tuple(part.replace("'", "’") for part in parts)
        for word, parts in table.items()
        if "'" in word
    }
    return table | curly


def _class(ranges: str, category: str | None = None) -> str:
    """Ranges of code points, or their characters of one Unicode category, as the inside of a character class."""
    bounds = [[int(end, 16) for end in span.split("-")] for span in ranges.split()]
    if not category:
        return "".join("-".join(map(chr, bound)) for bound in bounds)
    characters = (chr(code) for bound in bounds for code in range(bound[0], bound[-1] + 1))
    return "".join(character for character in characters if unicodedata.category(character) == category)


def _one(common: str, rare: str) -> str:
    """One character of either class; the second is beyond the basic plane and too slow to try everywhere."""
    return rf"(?:[{common}]|(?=[\U00010000-\U0010ffff])[{rare}])"


EXCEPTIONS = _exceptions()
MARKS = re.escape(PUNCTUATION + QUOTES)
QUOTE = re.escape(QUOTES)
UPPER = _class(CASED, "Lu") + "\u03a2" + _class(UNCASED)  # and a gap between Greek capitals
LOWER = _class(CASED, "Ll") + "\u0294" + _class(UNCASED)  # and the glottal stop, which has no case
LETTER = _class(CASED) + _class(UNCASED)
RARE = _class(RARE_UNCASED)
SYMBOL, RARE_SYMBOL = _class(SYMBOLIC, "So"), _class(RARE_SYMBOLIC, "So")
BEFORE, AFTER = _one(LETTER + "0-9", RARE), _one(LETTER, RARE)  # on either side of an infix
BEFORE_STOP = LOWER + MARKS + r"0-9%²+|\-"

# Alternatives that match a character and then look behind are faster than those that begin with a lookbehind.
PREFIX = re.compile(
    "|".join(
        (
            _one(re.escape("§%=—–" + CURRENCY) + MARKS + SYMBOL, RARE_SYMBOL),
            *(r"\.\.+", r"\+(?![0-9])", *DOLLARS),
        )
    )
)
AMOUNTS = "|".join((rf"[+{CURRENCY}]", *DOLLARS, *UNITS.split()))
SUFFIX = re.compile(
    "(?:"
    + "|".join(
        (
            _one("—–" + MARKS + SYMBOL, RARE_SYMBOL),
            *(r"\.\.+", "……", *CLITICS.split(), f"(?<=[0-9])(?![0-9])(?:{AMOUNTS})", r"\.(?<=°[FfCcKk].)"),
            rf"\.(?<={_one(BEFORE_STOP, RARE)}.)",
            rf"\.(?<={_one(UPPER, RARE) * 2}.)",
        )
    )
    + ")$"
)
LONGEST_SUFFIX = max(map(len, UNITS.split()))  # except for dots
INFIX = re.compile(
    "("
    + "|".join(
        (
            *(r"\.\.+", _one("…" + SYMBOL, RARE_SYMBOL), r"[+\-*^](?<=[0-9].)(?=[0-9-])"),
            rf"\.(?<={_one(LOWER + QUOTE, RARE)}.)(?={_one(UPPER + QUOTE, RARE)})",
            rf",(?<={AFTER}.)(?={AFTER})",
            rf"[-–—~](?<={BEFORE}.)(?={AFTER})",
            rf"(?:——|--)(?<={BEFORE}..)(?={AFTER})",
            rf"---(?<={BEFORE}...)(?={AFTER})",
            rf"[:<>=/](?<={BEFORE}.)(?={AFTER})",
        )
    )
    + ")"
)
URL = re.compile(
    rf"""
    (?: [\w+\-.]{{2,}} :// )? (?: \S+ @ )?
    (?: (?! {PRIVATE} )
        (?: [1-9]\d? | 1\d\d | 2[01]\d | 22[0-3] )
        (?: \. (?: 1?\d{{1,2}} | 2[0-4]\d | 25[0-5] ) ){{2}}
        \. (?: [1-9]\d? | 1\d\d | 2[0-4]\d | 25[0-4] )
    |   (?: (?: [{NAME}] [{NAME}_-]{{0,62}} )? [{NAME}] \. )+ {_one(LOWER, RARE)}{{2,63}}
    )
    (?: : \d{{2,5}} )? (?: [/?#] \S* )?
    """,
    re.VERBOSE,
)
