scattergather:
    features=config["features"]["shards"],


rule features:
    input:
        dataset=f"{PREPARED}/data/{{collection}}",
        images=lambda wildcards: image_source(wildcards.dataset, wildcards.collection),
        source=lambda wildcards: present(weights_source(config["backbones"][wildcards.backbone]["weights"])),
    output:
        temp(directory(f"{PREPARED}/features/{{backbone}}/shards/{{collection}}/{{scatteritem}}")),
    log:
        f"{PREPARED}/logs/features/{{backbone}}_{{collection}}_{{scatteritem}}.log",
    benchmark:
        f"{PREPARED}/benchmarks/features/{{backbone}}_{{collection}}_{{scatteritem}}.tsv"
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=4000,
        workers=config["features"]["workers"],
        unreadable=unreadable_images,
    params:
        settings=lambda wildcards: json.dumps(feature_settings(config, wildcards.backbone)),
        weights=lambda wildcards: weights_file(config["backbones"][wildcards.backbone]["weights"]),
        images=lambda wildcards: image_folder(wildcards.dataset, wildcards.collection),
    shell:
        "vlret features extract --backbone {wildcards.backbone} --weights {params.weights} --images {params.images}"
        " --dataset {input.dataset} --shard {wildcards.scatteritem} --unreadable {resources.unreadable}"
        " --settings {params.settings:q} --workers {resources.workers} --out {output} 2>&1 | tee {log}"


rule gather:
    input:
        gather.features(f"results/{{{{dataset}}}}/features/{{{{backbone}}}}/shards/{{{{collection}}}}/{{scatteritem}}"),
    output:
        directory(f"{PREPARED}/features/{{backbone}}/{{collection}}"),
    log:
        f"{PREPARED}/logs/features/{{backbone}}_{{collection}}.log",
    conda:
        ENVIRONMENT
    resources:
        unreadable=unreadable_images,
    shell:
        "vlret features gather --shards {input} --unreadable {resources.unreadable} --out {output} 2>&1 | tee {log}"
