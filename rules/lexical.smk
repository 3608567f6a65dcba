rule lexical_index:
    input:
        rules.passages.output,
    output:
        directory(f"{RESULTS}/lexical/index"),
    log:
        f"{LOGS}/lexical/index.log",
    benchmark:
        f"{BENCHMARKS}/lexical/index.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=json.dumps(config["lexical"]["analysis"]),
    shell:
        "vlret lexical index --passages {input} --settings {params.settings:q} --out {output} 2>&1 | tee {log}"


rule lexical_tune:
    input:
        index=rules.lexical_index.output,
        questions=rules.questions.output.table,
        qrels=f"{RESULTS}/data/qrels/validation.trec",
    output:
        tuning=f"{RESULTS}/lexical/tuning.json",
        heatmap=report(f"{RESULTS}/lexical/tuning.svg", caption="../workflow/report/tuning.rst", category="Tuning"),
    log:
        f"{LOGS}/lexical/tune.log",
    benchmark:
        f"{BENCHMARKS}/lexical/tune.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=json.dumps({key: config["lexical"][key] for key in ("b", "k1")}),
    shell:
        "vlret lexical tune --index {input.index} --questions {input.questions} --qrels {input.qrels}"
        " --settings {params.settings:q} --out {output.tuning} --heatmap {output.heatmap} 2>&1 | tee {log}"


rule lexical_search:
    input:
        index=rules.lexical_index.output,
        questions=rules.questions.output.table,
        tuning=rules.lexical_tune.output.tuning,
    output:
        f"{RESULTS}/lexical/runs/{{split}}.trec",
    log:
        f"{LOGS}/lexical/search_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/lexical/search_{{split}}.tsv"
    conda:
        ENVIRONMENT
    params:
        k=max(config["retrieval"]["depth"], config["negatives"]["depth"]),
    shell:
        "vlret lexical search --index {input.index} --questions {input.questions} --split {wildcards.split}"
        " --tuning {input.tuning} --k {params.k} --tag bm25 --out {output} 2>&1 | tee {log}"


rule join:
    input:
        expand(rules.lexical_search.output, split=SPLITS),
    output:
        f"{RESULTS}/runs/{EXPERIMENT}.trec",
    log:
        f"{LOGS}/join/{EXPERIMENT}.log",
    benchmark:
        f"{BENCHMARKS}/join/{EXPERIMENT}.tsv"
    wildcard_constraints:
        model=models_of("lexical"),
    conda:
        ENVIRONMENT
    params:
        experiment=lambda wildcards: experiment_of(wildcards).name,
        k=config["retrieval"]["depth"],
    shell:
        "vlret lexical join --runs {input} --k {params.k} --tag {params.experiment} --out {output} 2>&1 | tee {log}"
