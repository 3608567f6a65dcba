rule train:
    input:
        unpack(R.reads("train")),
    output:
        **R.made("train"),
    log:
        R.log("train"),
    benchmark:
        R.benchmark("train")
    wildcard_constraints:
        experiment=R.experiments("image", "text", "joint", "dual"),
    # Before what is quick, or the last training begins when nothing else is left to do beside it.
    priority: 1
    conda:
        ENVIRONMENT
    threads: R.cores
    resources:
        **R.places(),
        mem_mb=8000,
    params:
        settings=R.known("train"),
        options=R.options("train"),
    shell:
        "vlret training train {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


use rule train as pretrain with:
    input:
        unpack(R.reads("pretrain")),
    output:
        **R.made("pretrain"),
    log:
        R.log("pretrain"),
    benchmark:
        R.benchmark("pretrain")
    params:
        settings=R.known("pretrain"),
        options=R.options("pretrain"),
