rule lexical_index:
    input:
        f"{PREPARED}/data/passages",
    output:
        directory(f"{PREPARED}/lexical/index"),
    log:
        f"{PREPARED}/logs/lexical/index.log",
    benchmark:
        f"{PREPARED}/benchmarks/lexical/index.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=json.dumps(config["lexical"]["analysis"]),
    shell:
        "vlret lexical index --passages {input} --settings {params.settings:q} --out {output} 2>&1 | tee {log}"


rule lexical_tune:
    input:
        index=knowledge("lexical/index"),
        questions=rules.questions.output.table,
        qrels=f"{PREPARED}/data/qrels/validation.trec",
    output:
        tuning=f"{PREPARED}/lexical/tuning.json",
        heatmap=report(f"{PREPARED}/lexical/tuning.svg", caption="../workflow/report/tuning.rst", category="Tuning"),
    log:
        f"{PREPARED}/logs/lexical/tune.log",
    benchmark:
        f"{PREPARED}/benchmarks/lexical/tune.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=json.dumps({key: config["lexical"][key] for key in ("b", "k1")}),
    shell:
        "vlret lexical tune --index {input.index} --questions {input.questions} --qrels {input.qrels}"
        " --settings {params.settings:q} --out {output.tuning} --heatmap {output.heatmap} 2>&1 | tee {log}"


rule lexical_search:
    input:
        index=knowledge("lexical/index"),
        questions=rules.questions.output.table,
        tuning=tuned,
    output:
        f"{PREPARED}/lexical/runs/{{split}}.trec",
    log:
        f"{PREPARED}/logs/lexical/search_{{split}}.log",
    benchmark:
        f"{PREPARED}/benchmarks/lexical/search_{{split}}.tsv"
    conda:
        ENVIRONMENT
    params:
        chosen=lexical_options,
        k=max(config["retrieval"]["depth"], config["negatives"]["depth"]),
    shell:
        "vlret lexical search --index {input.index} --questions {input.questions} --split {wildcards.split}"
        " {params.chosen} --k {params.k} --tag bm25 --out {output} 2>&1 | tee {log}"


rule join:
    input:
        expand(f"{RESULTS}/lexical/runs/{{split}}.trec", split=SPLITS),
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
