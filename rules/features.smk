scattergather:
    features=R.config.features.shards,


rule features:
    input:
        unpack(R.reads("features")),
    output:
        **R.made("features"),
    log:
        R.log("features"),
    benchmark:
        R.benchmark("features")
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=4000,
    params:
        settings=R.known("features"),
        options=R.options("features"),
    shell:
        "vlret features extract {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule gather:
    input:
        unpack(R.reads("gather")),
    output:
        **R.made("gather"),
    log:
        R.log("gather"),
    benchmark:
        R.benchmark("gather")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("gather"),
        options=R.options("gather"),
    shell:
        "vlret features gather {params.options} --out {output.out:q} 2>&1 | tee {log:q}"
