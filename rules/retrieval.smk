rule embed:
    input:
        unpack(corpus),
        checkpoint=rules.train.output,
    output:
        directory(f"{RESULTS}/embeddings/{EXPERIMENT}"),
    log:
        f"{LOGS}/embed/{EXPERIMENT}.log",
    benchmark:
        f"{BENCHMARKS}/embed/{EXPERIMENT}.tsv"
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=8000,
    params:
        corpus=corpus_options,
        batch_size=config["embedding"]["batch_size"],
    shell:
        "vlret retrieval embed --checkpoint {input.checkpoint} {params.corpus} --batch-size {params.batch_size}"
        " --out {output} 2>&1 | tee {log}"


rule ablate:
    input:
        unpack(corpus),
        checkpoint=rules.train.output,
    output:
        f"{RESULTS}/ablations/{EXPERIMENT}.{{ablation}}.npy",
    log:
        f"{LOGS}/ablate/{EXPERIMENT}.{{ablation}}.log",
    benchmark:
        f"{BENCHMARKS}/ablate/{EXPERIMENT}.{{ablation}}.tsv"
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=8000,
    params:
        corpus=corpus_options,
        batch_size=config["embedding"]["batch_size"],
    shell:
        "vlret retrieval ablate --checkpoint {input.checkpoint} {params.corpus} --batch-size {params.batch_size}"
        " --kind {wildcards.ablation} --out {output} 2>&1 | tee {log}"


rule index:
    input:
        rules.embed.output,
    output:
        f"{RESULTS}/indices/{EXPERIMENT}.faiss",
    log:
        f"{LOGS}/index/{EXPERIMENT}.log",
    benchmark:
        f"{BENCHMARKS}/index/{EXPERIMENT}.tsv"
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        factory=config["retrieval"]["index"],
        seed=config["seed"],
    shell:
        "vlret retrieval index --embeddings {input} --factory {params.factory:q} --seed {params.seed} --out {output}"
        " 2>&1 | tee {log}"


rule search:
    input:
        index=rules.index.output if index_options("") else [],
        embeddings=rules.embed.output,
        questions=f"{RESULTS}/data/questions",
        passages=EVALUATED["passages"],
    output:
        run=f"{RESULTS}/runs/{EXPERIMENT}.trec",
        report=f"{RESULTS}/runs/{EXPERIMENT}.json",
    log:
        f"{LOGS}/search/{EXPERIMENT}.log",
    benchmark:
        f"{BENCHMARKS}/search/{EXPERIMENT}.tsv"
    wildcard_constraints:
        model=models_of("image", "text", "joint", "dual"),
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        asked=f"{rules.embed.output}/questions.npy",
        index=index_options(rules.index.output),
        tag=lambda wildcards: experiment_of(wildcards).name,
        k=config["retrieval"]["depth"],
        seed=config["seed"],
    shell:
        "vlret retrieval search {params.index} --embeddings {input.embeddings}"
        " --questions-embeddings {params.asked} --questions {input.questions} --passages {input.passages}"
        " --k {params.k} --seed {params.seed} --tag {params.tag} --out {output.run} --report {output.report}"
        " 2>&1 | tee {log}"


use rule search as search_ablation with:
    input:
        index=rules.index.output if index_options("") else [],
        embeddings=rules.embed.output,
        asked=rules.ablate.output,
        questions=f"{RESULTS}/data/questions",
        passages=EVALUATED["passages"],
    output:
        run=f"{RESULTS}/runs/{EXPERIMENT}.{{ablation}}.trec",
        report=f"{RESULTS}/runs/{EXPERIMENT}.{{ablation}}.json",
    log:
        f"{LOGS}/search/{EXPERIMENT}.{{ablation}}.log",
    benchmark:
        f"{BENCHMARKS}/search/{EXPERIMENT}.{{ablation}}.tsv"
    params:
        asked=rules.ablate.output,
        index=index_options(rules.index.output),
        tag=lambda wildcards: f"{experiment_of(wildcards).name}.{wildcards.ablation}",
        k=config["retrieval"]["depth"],
        seed=config["seed"],


rule fuse:
    input:
        runs=lambda wildcards: expand(f"{RESULTS}/runs/{{run}}.trec", run=FUSIONS[wildcards.fusion]["runs"]),
        qrels=f"{RESULTS}/data/qrels/validation.trec",
    output:
        run=f"{RESULTS}/runs/{{fusion}}.trec",
        report=f"{RESULTS}/runs/{{fusion}}.json",
    log:
        f"{LOGS}/fuse/{{fusion}}.log",
    benchmark:
        f"{BENCHMARKS}/fuse/{{fusion}}.tsv"
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: json.dumps(FUSIONS[wildcards.fusion]),
        k=config["retrieval"]["depth"],
    shell:
        "vlret retrieval fuse --runs {input.runs} --qrels {input.qrels} --settings {params.settings:q} --k {params.k}"
        " --tag {wildcards.fusion} --out {output.run} --report {output.report} 2>&1 | tee {log}"
