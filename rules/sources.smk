rule download:
    input:
        unpack(R.reads("download")),
    output:
        **R.made("download"),
    log:
        R.log("download"),
    benchmark:
        R.benchmark("download")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("download"),
        options=R.options("download"),
    shell:
        "vlret data download {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule repository:
    input:
        unpack(R.reads("repository")),
    output:
        **R.made("repository"),
    log:
        R.log("repository"),
    benchmark:
        R.benchmark("repository")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("repository"),
        options=R.options("repository"),
    shell:
        "vlret data repository {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule source:
    input:
        unpack(R.reads("source")),
    output:
        **R.made("source"),
    log:
        R.log("source"),
    benchmark:
        R.benchmark("source")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("source"),
        options=R.options("source"),
    shell:
        "vlret data source {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule images:
    input:
        unpack(R.reads("images")),
    output:
        **R.made("images"),
    log:
        R.log("images"),
    benchmark:
        R.benchmark("images")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("images"),
        options=R.options("images"),
    shell:
        "vlret data images {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule by_hand:
    input:
        unpack(R.reads("by_hand")),
    output:
        **R.made("by_hand"),
    log:
        R.log("by_hand"),
    priority: 100
    conda:
        ENVIRONMENT
    params:
        settings=R.known("by_hand"),
        options=R.options("by_hand"),
    shell:
        "vlret data missing {params.options} 2>&1 | tee {log:q}"
