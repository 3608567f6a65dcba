rule train:
    input:
        unpack(corpus),
        qrels=f"{RESULTS}/data/qrels/train.trec",
        negatives=lambda wildcards: list(mined(wildcards).values()),
        validation_qrels=validation_qrels,
        validation_negatives=lambda wildcards: list(mined(wildcards, "validation").values()),
        tasks=lambda wildcards: list(task_files(wildcards).values()),
    output:
        directory(f"{RESULTS}/checkpoints/{EXPERIMENT}"),
    log:
        f"{LOGS}/train/{EXPERIMENT}.log",
    benchmark:
        f"{BENCHMARKS}/train/{EXPERIMENT}.tsv"
    wildcard_constraints:
        model=models_of("image", "text", "joint", "dual"),
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=8000,
        gres="gpu:1",
    params:
        settings=settings_of,
        corpus=corpus_options,
        negatives=lambda wildcards: mined_options(wildcards, "train"),
        validation=validation_options,
        tasks=task_options,
    shell:
        "vlret training train --settings {params.settings:q} {params.corpus} --qrels {input.qrels}"
        " --negatives {params.negatives} {params.validation} {params.tasks} --out {output} 2>&1 | tee {log}"
