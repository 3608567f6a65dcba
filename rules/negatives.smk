rule negatives:
    input:
        questions=rules.questions.output.table,
        passages=knowledge("data/passages"),
        normalised=knowledge("data/normalised"),
        qrels=f"{PREPARED}/data/qrels/{{split}}.trec",
        run=miner_run,
        articles=branch(lambda wildcards: wildcards.miner == "same-type", then=knowledge("data/articles"), otherwise=[]),
    output:
        f"{PREPARED}/negatives/{{miner}}/{{split}}.parquet",
    log:
        f"{PREPARED}/logs/negatives/{{miner}}_{{split}}.log",
    benchmark:
        f"{PREPARED}/benchmarks/negatives/{{miner}}_{{split}}.tsv"
    wildcard_constraints:
        miner="[a-z0-9+-]+(\\.[a-z0-9+_-]+)?",
    conda:
        ENVIRONMENT
    params:
        run=lambda wildcards, input: f"--run {input.run}" if input.run else "",
        articles=lambda wildcards, input: f"--articles {input.articles}" if input.articles else "",
        depth=config["negatives"]["depth"],
        seed=config["seed"],
    shell:
        "vlret negatives mine --miner {wildcards.miner} --split {wildcards.split} --questions {input.questions}"
        " --passages {input.passages} --normalised {input.normalised} --qrels {input.qrels} {params.run}"
        " {params.articles} --depth {params.depth} --seed {params.seed} --out {output} 2>&1 | tee {log}"
