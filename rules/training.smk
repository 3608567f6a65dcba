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
    threads: lambda wildcards: THREADS * processes_of(wildcards)["gpus"]
    resources:
        mem_mb=8000,
        gres=lambda wildcards: f"gpu:{processes_of(wildcards)['gpus']}",
        processes=lambda wildcards: processes_of(wildcards)["gpus"],
        nodes=lambda wildcards: processes_of(wildcards)["nodes"],
        # Slurm's plugin leaves the start on several nodes to the command.
        tasks=over_nodes(lambda nodes: nodes),
        tasks_per_gpu=over_nodes(lambda nodes: 0),
        mpi=over_nodes(lambda nodes: "srun"),
    params:
        settings=settings_of,
        corpus=corpus_options,
        negatives=lambda wildcards: mined_options(wildcards, "train"),
        validation=validation_options,
        tasks=task_options,
    shell:
        "vlret training train --settings {params.settings:q} {params.corpus} --qrels {input.qrels}"
        " --negatives {params.negatives} {params.validation} {params.tasks} --gpus {resources.processes}"
        " --nodes {resources.nodes} --out {output} 2>&1 | tee {log}"
