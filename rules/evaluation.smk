rule pool:
    input:
        runs=[f"{RESULTS}/runs/{row['name']}.trec" for row in table_runs()],
        questions=f"{RESULTS}/data/questions",
        normalised=EVALUATED["normalised"],
    output:
        qrels=expand(f"{RESULTS}/data/dynamic/{{split}}.trec", split=["validation", "test"]),
        report=f"{RESULTS}/data/dynamic.json",
    log:
        f"{LOGS}/pool.log",
    benchmark:
        f"{BENCHMARKS}/pool.tsv"
    conda:
        ENVIRONMENT
    params:
        out=lambda wildcards, output: Path(output.qrels[0]).parent,
    shell:
        "vlret data pool --runs {input.runs} --questions {input.questions} --normalised {input.normalised}"
        " --out {params.out} --report {output.report} 2>&1 | tee {log}"


rule metrics:
    input:
        run=f"{RESULTS}/runs/{{run}}.trec",
        qrels=expand(f"{JUDGEMENTS}/{{split}}.trec", split=["validation", "test"]),
    output:
        f"{RESULTS}/metrics/{{run}}.json",
    log:
        f"{LOGS}/metrics/{{run}}.log",
    benchmark:
        f"{BENCHMARKS}/metrics/{{run}}.tsv"
    conda:
        ENVIRONMENT
    params:
        metrics=config["evaluation"]["metrics"],
    shell:
        "vlret evaluation metrics --run {input.run} --qrels {input.qrels} --metrics {params.metrics}"
        " --name {wildcards.run} --out {output} 2>&1 | tee {log}"


rule table:
    input:
        metrics=[f"{RESULTS}/metrics/{row['name']}.json" for row in table_runs()],
        questions=f"{RESULTS}/data/questions",
    output:
        tex=report("results/table.tex", caption="../workflow/report/table.rst", category="Results"),
        csv=report("results/table.csv", caption="../workflow/report/table.rst", category="Results"),
        md="results/table.md",
        html=report("results/table.html", caption="../workflow/report/table.rst", category="Results"),
        pvalues=report("results/table.pvalues.csv", caption="../workflow/report/pvalues.rst", category="Results"),
    log:
        f"{LOGS}/table.log",
    benchmark:
        f"{BENCHMARKS}/table.tsv"
    conda:
        ENVIRONMENT
    params:
        rows=json.dumps(table_runs()),
        settings=json.dumps({**config["evaluation"], "seed": config["seed"]}),
    shell:
        "vlret evaluation table --metrics {input.metrics} --questions {input.questions} --rows {params.rows:q}"
        " --settings {params.settings:q} --out {output.tex} 2>&1 | tee {log}"
