"""What a config declares of its datasets: where their files come from, and which datasets belong together."""

from collections.abc import Mapping

from vlret.data.sources import resolve
from vlret.experiment import knowledge_base
from vlret.files import InputError

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

TAKEN = ("by-hand", "downloads")  # folders of results/ that are no dataset's


def declared(config: Mapping, table: Mapping[str, Mapping]) -> dict[str, dict[str, dict]]:
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
    for dataset, entry in config["datasets"].items():
        found[dataset] = {}
        for key in filter(PURPOSES.get, entry["source"]):
            where = f"datasets.{dataset}.source.{key}"
            source = resolve(entry["source"][key], PURPOSES[key], table, where)
            if source["name"] not in table:
                source["name"] = f"{dataset}-{key}"
            first, same = places.setdefault(source["name"], (where, source))
            if same != source:
                raise InputError(f"{where}: {source['name']} is looked for in another place than {first} looks for it")
            found[dataset][key] = source
    return found


def relevance(config: Mapping, dataset: str) -> Mapping:
    """What links a dataset's questions to the articles that they are judged by, and where answers are looked for."""
    return config["datasets"][dataset].get("relevance", {"link": "wikidata", "titles": ""})


def undeclared(config: Mapping) -> str | None:
    """A dataset that nobody declared, or one that lacks what its questions, articles or passages would be made of."""
    datasets = config["datasets"]
    if config["dataset"] not in datasets or "entities" in datasets[config["dataset"]]["source"]:
        asked = [name for name, entry in datasets.items() if "entities" not in entry["source"]]
        return f"dataset: {config['dataset']!r} is not one of datasets with questions: {', '.join(asked)}"
    if taken := sorted(datasets.keys() & TAKEN):
        return f"datasets.{taken[0]}: results/{taken[0]} is for something else; choose another name"
    for name, entry in datasets.items():
        check = _entities if "entities" in entry["source"] else _articles
        if message := check(name, config) or _shares(entry["source"]):
            return f"datasets.{name}{message}"
    return None


def _entities(name: str, config: Mapping) -> str | None:
    """A dataset of which images of entities shall be taken, and which has no questions and articles."""
    source = config["datasets"][name]["source"]
    for key, others in (("of", [source["of"]]), ("without", source["without"])):
        for other in others:
            if other not in config["datasets"] or "entities" in config["datasets"][other]["source"]:
                return f".source.{key}: {other!r} is no dataset with questions"
    return None


def _articles(name: str, config: Mapping) -> str | None:
    """A knowledge base that is nowhere, or in two places."""
    entry, base = config["datasets"][name], knowledge_base(config, name)
    source = entry["source"]
    if base != name:
        known = config["datasets"].get(base, {"source": {"entities": None}})
        if "entities" in known["source"] or "knowledge_base" in known:
            return f".knowledge_base: {base!r} is no dataset with a knowledge base of its own"
        if odd := sorted({"wikipedia", "passages", "article_images"} & source.keys()):
            return f".source.{odd[0]}: its articles are those of {base}"
        titles, others = (relevance(config, each)["titles"] for each in (name, base))
        if titles != others:
            return f".relevance.titles: {titles!r}, but {base}, whose passages these are, has {others!r}"
    elif not {"sample", "wikipedia"} & source.keys():
        return ": source.wikipedia or knowledge_base must say what its articles are"
    elif ("passages" in entry) == ("passages" in source):
        return ": its passages are cut (passages) or published (source.passages), one of the two"
    return None


def _shares(source: Mapping) -> str | None:
    for field, holder in ((".source.sample.split", source.get("sample", {})), (".source.split", source)):
        if "split" in holder and abs(sum(holder["split"].values()) - 1) > 1e-9:
            return f"{field}: the shares add up to {sum(holder['split'].values()):g}, not 1"
    return None


def missing(file: str) -> None:
    """Say that a file of the user's own is not there, for the job that stands for it until it is: an `InputError`."""
    raise InputError(f"{file}: is not there, and nothing fetches it; docs/experiments.md says where it comes from")
