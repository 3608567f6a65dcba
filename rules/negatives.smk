rule negatives:
    input:
        questions=rules.questions.output.table,
        passages=rules.passages.output,
        qrels=f"{RESULTS}/data/qrels/{{split}}.trec",
        run=branch(lambda wildcards: wildcards.miner == "bm25", then=rules.lexical_search.output, otherwise=[]),
    output:
        f"{RESULTS}/negatives/{{miner}}/{{split}}.parquet",
    log:
        f"{LOGS}/negatives/{{miner}}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/negatives/{{miner}}_{{split}}.tsv"
    conda:
        ENVIRONMENT
    params:
        run=lambda wildcards, input: f"--run {input.run}" if input.run else "",
        depth=config["negatives"]["depth"],
        seed=config["seed"],
    shell:
        "vlret negatives mine --miner {wildcards.miner} --split {wildcards.split} --questions {input.questions}"
        " --passages {input.passages} --qrels {input.qrels} {params.run} --depth {params.depth} --seed {params.seed}"
        " --out {output} 2>&1 | tee {log}"
