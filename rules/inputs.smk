"""Which files a dataset's records and images are read from: published sources by name, the user's own, the sample's."""

from vlret.data.sources import layout


def fetched(dataset, key):
    """The folder of what a key of a dataset's source names."""
    return f"results/downloads/sources/{SOURCES[dataset][key]['name']}"


def source_files(dataset, key):
    """The files in it by role, in their order."""
    return {role: f"{fetched(dataset, key)}/{name}" for role, name in layout(SOURCES[dataset][key]).items()}


def made(dataset):
    """Whether a dataset's questions are not read as they were fetched: the sample's, and those that come by id alone."""
    return bool({"sample", "trivia"} & DATASETS[dataset]["source"].keys())


def question_sources(wildcards):
    """What has to be there before a dataset's questions can be read."""
    raw = [f"results/{wildcards.dataset}/raw/{split}.jsonl" for split in SPLITS]
    return raw if made(wildcards.dataset) else fetched(wildcards.dataset, "questions")


def question_files(wildcards):
    """The questions as options of `vlret data questions`."""
    if made(wildcards.dataset):
        files = dict(zip(SPLITS, question_sources(wildcards), strict=True))
    else:
        files = source_files(wildcards.dataset, "questions")
    return " ".join(f"--{split} {files[split]}" for split in SPLITS)


def article_sources(wildcards):
    """What has to be there before a dataset's knowledge base can be read."""
    if "sample" in DATASETS[wildcards.dataset]["source"]:
        return f"results/{wildcards.dataset}/raw/wikipedia.jsonl"
    return fetched(wildcards.dataset, "wikipedia")


def article_files(wildcards):
    """The files of a dataset's knowledge base in their order."""
    if "sample" in DATASETS[wildcards.dataset]["source"]:
        return article_sources(wildcards)
    return list(source_files(wildcards.dataset, "wikipedia").values())


def image_key(dataset, collection):
    """The key of the source that the images of questions or articles come from; None where there are none to fetch."""
    keys = ["article_images", "images"] if collection == "articles" else ["images"]
    return next((key for key in keys if key in SOURCES[dataset]), None)


def image_source(dataset, collection):
    """What has to be there before the images of questions or articles can be read; nothing where there are none."""
    key = image_key(dataset, collection)
    if key is None:
        return f"results/{dataset}/raw/images" if "sample" in DATASETS[dataset]["source"] else []
    name = SOURCES[dataset][key]["name"]
    return f"results/downloads/images/{name}" if "archives" in SOURCES[dataset][key]["files"] else fetched(dataset, key)


def image_folder(dataset, collection):
    """The folder of those images itself."""
    key = image_key(dataset, collection)
    if key is not None and "images" in SOURCES[dataset][key]["files"]:
        return source_files(dataset, key)["images"]
    return image_source(dataset, collection)


def named(prefix, files):
    """The files of the splits as options that begin with a prefix."""
    return " ".join(f"--{prefix}-{split} {files[split]}" for split in SPLITS)


def image_option(dataset):
    """The images of a dataset's questions as an option of `vlret data questions`."""
    folder = image_folder(dataset, "questions")
    return f"--images {folder}" if folder else ""


def question_link(wildcards):
    """What links questions to articles: the entity of their image, or, where they have none, their provenance."""
    return "wikidata" if image_source(wildcards.dataset, "questions") else "provenance"


def unreadable_images(wildcards):
    """How many images may be missing or broken: a resource, since another limit makes no other features."""
    if wildcards.collection == "questions":
        return 0
    return DATASETS[wildcards.dataset].get("limits", {}).get("unreadable image", 10**9)
