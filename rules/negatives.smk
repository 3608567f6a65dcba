rule negatives:
    input:
        unpack(R.reads("negatives")),
    output:
        **R.made("negatives"),
    log:
        R.log("negatives"),
    benchmark:
        R.benchmark("negatives")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("negatives"),
        options=R.options("negatives"),
    shell:
        "vlret negatives mine {params.options} --out {output.out:q} 2>&1 | tee {log:q}"
