"""Where a dataset's records and images come from: published sources by name, the user's own, further images."""

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


rule source:
    output:
        directory("results/downloads/sources/{source}"),
    log:
        "results/downloads/logs/sources/{source}.log",
    benchmark:
        "results/downloads/benchmarks/sources/{source}.tsv"
    wildcard_constraints:
        source="|".join(FETCHED) or "(?!)",
    conda:
        ENVIRONMENT
    params:
        source=lambda wildcards: json.dumps(FETCHED[wildcards.source]),
    shell:
        "vlret data source --source {params.source:q} --out {output} 2>&1 | tee {log}"


rule images:
    input:
        rules.source.output,
    output:
        directory("results/downloads/images/{source}"),
    log:
        "results/downloads/logs/images/{source}.log",
    benchmark:
        "results/downloads/benchmarks/images/{source}.tsv"
    wildcard_constraints:
        source="|".join(FETCHED) or "(?!)",
    conda:
        ENVIRONMENT
    params:
        archives=lambda wildcards, input: f"{input}/{layout(FETCHED[wildcards.source])['archives']}",
        most=lambda wildcards: FETCHED[wildcards.source]["bytes_unpacked"],
    shell:
        "vlret data images --archives {params.archives} --most-bytes {params.most} --out {output} 2>&1 | tee {log}"


rule trivia:
    input:
        questions=lambda wildcards: fetched(wildcards.dataset, "questions"),
        trivia=lambda wildcards: fetched(wildcards.dataset, "trivia"),
    output:
        files=expand(f"{PREPARED}/raw/{{split}}.jsonl", split=SPLITS, allow_missing=True),
        report=f"{PREPARED}/data/trivia.json",
    log:
        f"{PREPARED}/logs/trivia.log",
    benchmark:
        f"{PREPARED}/benchmarks/trivia.tsv"
    wildcard_constraints:
        dataset=datasets_with("trivia"),
    conda:
        ENVIRONMENT
    params:
        kilt=lambda wildcards: named("kilt", source_files(wildcards.dataset, "questions")),
        trivia=lambda wildcards: named("trivia", source_files(wildcards.dataset, "trivia")),
        limits=lambda wildcards: json.dumps(DATASETS[wildcards.dataset].get("limits", {})),
        out=lambda wildcards, output: Path(output.files[0]).parent,
    shell:
        "vlret data triviaqa {params.kilt} {params.trivia} --limits {params.limits:q} --out {params.out}"
        " --report {output.report} 2>&1 | tee {log}"


rule published_passages:
    input:
        passages=lambda wildcards: fetched(wildcards.dataset, "passages"),
        articles=f"{PREPARED}/data/articles",
    output:
        directory(f"{PREPARED}/data/passages"),
    log:
        f"{PREPARED}/logs/passages.log",
    benchmark:
        f"{PREPARED}/benchmarks/passages.tsv"
    wildcard_constraints:
        dataset=datasets_with("passages"),
    conda:
        ENVIRONMENT
    params:
        files=lambda wildcards: list(source_files(wildcards.dataset, "passages").values()),
    shell:
        "vlret data published-passages --passages {params.files} --articles {input.articles} --out {output}"
        " 2>&1 | tee {log}"


rule entities:
    input:
        table=lambda wildcards: fetched(wildcards.dataset, "entities"),
        images=lambda wildcards: image_source(wildcards.dataset, "questions"),
        articles=lambda wildcards: tables_of(DATASETS[wildcards.dataset]["source"]["of"])["articles"],
        passages=lambda wildcards: tables_of(DATASETS[wildcards.dataset]["source"]["of"])["passages"],
        without=lambda wildcards: [
            tables_of(other)["questions"] for other in DATASETS[wildcards.dataset]["source"]["without"]
        ],
    output:
        tables=[directory(f"{PREPARED}/data/{name}") for name in ("articles", "passages", "questions")],
        report=f"{PREPARED}/data/entities.json",
    log:
        f"{PREPARED}/logs/entities.log",
    benchmark:
        f"{PREPARED}/benchmarks/entities.tsv"
    wildcard_constraints:
        dataset=datasets_with("entities"),
    conda:
        ENVIRONMENT
    params:
        table=lambda wildcards: source_files(wildcards.dataset, "entities")["entities"],
        images=lambda wildcards: image_folder(wildcards.dataset, "questions"),
        least=lambda wildcards: DATASETS[wildcards.dataset]["source"]["least_passages"],
        split=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]["source"]["split"]),
        seed=config["seed"],
        out=lambda wildcards, output: Path(output.report).parent,
    shell:
        "vlret data entities --articles {input.articles} --passages {input.passages} --images {params.images}"
        " --table {params.table} --without {input.without} --least-passages {params.least} --split {params.split:q}"
        " --seed {params.seed} --out {params.out} 2>&1 | tee {log}"


rule by_hand:
    output:
        "results/by-hand/{file}",
    priority: 100
    shell:
        "vlret data missing --file {wildcards.file}"
