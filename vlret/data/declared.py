"""What a config declares about its datasets: where their files come from, and which ones belong together."""

from collections.abc import Mapping
from pathlib import Path

from vlret.data.own import absence
from vlret.data.sources import resolve
from vlret.experiment import knowledge_base
from vlret.explained import meant
from vlret.files import InputError
from vlret.settings import Config, EntitySource, PublishedSource, SampleSource

# The purpose, in terms of `vlret.data.sources.resolve`, of each key of a dataset's `source`.
PURPOSES = {
    "questions": "questions",
    "trivia": "trivia",
    "wikipedia": "wikipedia",
    "images": "images",
    "article_images": "images",
    "passages": "passages",
    "entities": "entities",
}

TAKEN = ("by-hand", "downloads", "pretraining", "settings")  # folders of results/ that are not datasets


def declared(config: Config, table: Mapping[str, Mapping]) -> dict[str, dict[str, dict]]:
    """By dataset and key of its `source`, where the files come from; empty for the sample, which is generated.

    Each is a result of `vlret.data.sources.resolve`; its `name` names a folder, shared by datasets with the same
    published source, otherwise the dataset's own. `table` is `config/sources.yaml`.

    Raises
    ------
    InputError
        For a source that cannot be resolved, or one that two datasets look for in different places.
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
                raise InputError(f"{where}: {source['name']} is in another place in {first}")
            found[dataset][key] = source
    return found


def made_for_us(source: SampleSource | EntitySource | PublishedSource) -> str | None:
    """The rule that makes a dataset's questions; None if they are read as fetched."""
    if isinstance(source, SampleSource):
        return "sample"
    return "trivia" if isinstance(source, PublishedSource) and source.trivia is not None else None


def undeclared(config: Config) -> str | None:
    """The error of an undeclared dataset, or one without a source of questions, articles or passages; else None."""
    asked = [name for name, entry in config.datasets.items() if not isinstance(entry.source, EntitySource)]
    if config.dataset not in asked:
        near = meant(config.dataset, asked)
        return f"dataset: {config.dataset!r} is not one of datasets with questions: {', '.join(asked)}{near}"
    if taken := sorted(config.datasets.keys() & TAKEN):
        return f"datasets.{taken[0]}: results/{taken[0]} is for something else; choose another name"
    for name, entry in config.datasets.items():
        check = _entities if isinstance(entry.source, EntitySource) else _articles
        if message := check(name, config, asked):
            return f"datasets.{name}{message}"
    return None


def _entities(name: str, config: Config, asked: list[str]) -> str | None:
    """The error of an entity dataset that refers to one without questions and articles; else None."""
    source = config.datasets[name].source
    for key, others in (("of", [source.of]), ("without", source.without)):
        for other in others:
            if other not in asked:
                return f".source.{key}: {other!r} is not a dataset with questions{meant(other, asked)}"
    return None


def _articles(name: str, config: Config, asked: list[str]) -> str | None:
    """The error of a dataset without a knowledge base, or with two; else None."""
    entry, base = config.datasets[name], knowledge_base(config, name)
    published = entry.source if isinstance(entry.source, PublishedSource) else None
    if base != name:
        if base not in asked or config.datasets[base].knowledge_base is not None:
            near = meant(base, asked)
            return f".knowledge_base: {base!r} is not a dataset with a knowledge base of its own{near}"
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
    """Report a missing file of the user's own; the job that stands in for the file calls this.

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
