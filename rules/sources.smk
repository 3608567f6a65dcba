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
    log:
        "results/by-hand/logs/{file}.log",
    priority: 100
    conda:
        ENVIRONMENT
    shell:
        "vlret data missing --file {wildcards.file} 2>&1 | tee {log}"
