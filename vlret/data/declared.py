"""What a config declares of its datasets: where their files come from, and which datasets belong together."""

from collections.abc import Mapping
from pathlib import Path

from vlret.data.own import absence
from vlret.data.sources import resolve
from vlret.experiment import knowledge_base
from vlret.explained import meant
from vlret.files import InputError
from vlret.settings import Config, EntitySource, PublishedSource, SampleSource

# What each key of a dataset's `source` is for, as `vlret.data.sources.resolve` calls it.
PURPOSES = {
    "questions": "questions",
    "trivia": "trivia",
    "wikipedia": "wikipedia",
    "images": "images",
    "article_images": "images",
    "passages": "passages",
    "entities": "entities",
}

TAKEN = ("by-hand", "downloads", "pretraining", "settings")  # folders of results/ that are no dataset's


def declared(config: Config, table: Mapping[str, Mapping]) -> dict[str, dict[str, dict]]:
    """By dataset and key of its `source`, where those files come from; nothing for what is made for the sample.

    Each is what `vlret.data.sources.resolve` makes of it; its `name` is that of one folder, the same for datasets that
    share a published source, and one of the dataset's own otherwise. `table` is `config/sources.yaml`.

    Raises
    ------
    InputError
        For a source that cannot be resolved, or one that two datasets look for in two places.
    """
    found: dict[str, dict[str, dict]] = {}
    places: dict[str, tuple[str, dict]] = {}
    for dataset, entry in config.datasets.items():
        found[dataset] = {}
        for key, purpose in PURPOSES.items():
            value = getattr(entry.source, key, None)
            if value is None:
                continue
            where = f"datasets.{dataset}.source.{key}"
            source = resolve(value, purpose, table, where)
            if source["name"] not in table:
                source["name"] = f"{dataset}-{key}"
            first, same = places.setdefault(source["name"], (where, source))
            if same != source:
                raise InputError(f"{where}: {source['name']} is looked for in another place than {first} looks for it")
            found[dataset][key] = source
    return found


def made_for_us(source: SampleSource | EntitySource | PublishedSource) -> str | None:
    """The rule that makes a dataset's questions, where they are not read as they were fetched; None elsewhere."""
    if isinstance(source, SampleSource):
        return "sample"
    return "trivia" if isinstance(source, PublishedSource) and source.trivia is not None else None


def undeclared(config: Config) -> str | None:
    """A dataset that nobody declared, or one that lacks what its questions, articles or passages would be made of."""
    asked = [name for name, entry in config.datasets.items() if not isinstance(entry.source, EntitySource)]
    if config.dataset not in asked:
        near = meant(config.dataset, asked, before="; ")
        return f"dataset: {config.dataset!r} is not one of datasets with questions: {', '.join(asked)}{near}"
    if taken := sorted(config.datasets.keys() & TAKEN):
        return f"datasets.{taken[0]}: results/{taken[0]} is for something else; choose another name"
    for name, entry in config.datasets.items():
        check = _entities if isinstance(entry.source, EntitySource) else _articles
        if message := check(name, config, asked):
            return f"datasets.{name}{message}"
    return None


def _entities(name: str, config: Config, asked: list[str]) -> str | None:
    """A dataset whose entities' images shall be taken, and which has no questions and articles."""
    source = config.datasets[name].source
    for key, others in (("of", [source.of]), ("without", source.without)):
        for other in others:
            if other not in asked:
                return f".source.{key}: {other!r} is no dataset with questions{meant(other, asked, before='; ')}"
    return None


def _articles(name: str, config: Config, asked: list[str]) -> str | None:
    """A knowledge base that is nowhere, or in two places."""
    entry, base = config.datasets[name], knowledge_base(config, name)
    published = entry.source if isinstance(entry.source, PublishedSource) else None
    if base != name:
        if base not in asked or config.datasets[base].knowledge_base is not None:
            near = meant(base, asked, before="; ")
            return f".knowledge_base: {base!r} is no dataset with a knowledge base of its own{near}"
        if odd := sorted({"wikipedia", "passages", "article_images"} & (published.given().keys() if published else {})):
            return f".source.{odd[0]}: its articles are those of {base}"
        titles, others = entry.relevance.titles, config.datasets[base].relevance.titles
        if titles != others:
            return f".relevance.titles: {titles!r}, but {base}, whose passages these are, has {others!r}"
        return None
    if published and published.wikipedia is None:
        return ": source.wikipedia or knowledge_base must say what its articles are"
    if (entry.passages is None) == (published is None or published.passages is None):
        return ": its passages are cut (passages) or published (source.passages), one of the two"
    return None


def missing(file: str) -> None:
    """Say that a file of the user's own is not there, for the job that stands for it until it is.

    Parameters
    ----------
    file
        Where the config looks for it.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(f"{absence(Path(file))}; docs/experiments.md says where published ones come from")
