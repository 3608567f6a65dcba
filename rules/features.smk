rule features:
    input:
        dataset=f"{RESULTS}/data/{{collection}}",
        images=rules.sample.output.images,
        source=lambda wildcards: weights_source(config["backbones"][wildcards.backbone]["weights"]),
    output:
        directory(f"{RESULTS}/features/{{backbone}}/{{collection}}"),
    log:
        f"{LOGS}/features/{{backbone}}_{{collection}}.log",
    benchmark:
        f"{BENCHMARKS}/features/{{backbone}}_{{collection}}.tsv"
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=4000,
    params:
        settings=json.dumps({**config["features"], "threads": THREADS}),
        weights=lambda wildcards: weights_file(config["backbones"][wildcards.backbone]["weights"]),
        unreadable=lambda wildcards: "error" if wildcards.collection == "questions" else "record",
    shell:
        "vlret features extract --backbone {wildcards.backbone} --weights {params.weights} --images {input.images}"
        " --dataset {input.dataset} --unreadable {params.unreadable} --settings {params.settings:q} --out {output}"
        " 2>&1 | tee {log}"
