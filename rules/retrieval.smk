rule embed:
    input:
        unpack(R.reads("embed")),
    output:
        **R.made("embed"),
    log:
        R.log("embed"),
    benchmark:
        R.benchmark("embed")
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=8000,
    params:
        settings=R.known("embed"),
        options=R.options("embed"),
    shell:
        "vlret retrieval embed {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule embed_questions:
    input:
        unpack(R.reads("embed_questions")),
    output:
        **R.made("embed_questions"),
    log:
        R.log("embed_questions"),
    benchmark:
        R.benchmark("embed_questions")
    conda:
        ENVIRONMENT
    threads: THREADS
    resources:
        mem_mb=8000,
    params:
        settings=R.known("embed_questions"),
        options=R.options("embed_questions"),
    shell:
        "vlret retrieval embed-questions {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


use rule embed_questions as ablate with:
    input:
        unpack(R.reads("ablate")),
    output:
        **R.made("ablate"),
    log:
        R.log("ablate"),
    benchmark:
        R.benchmark("ablate")
    params:
        settings=R.known("ablate"),
        options=R.options("ablate"),


rule index:
    input:
        unpack(R.reads("index")),
    output:
        **R.made("index"),
    log:
        R.log("index"),
    benchmark:
        R.benchmark("index")
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        settings=R.known("index"),
        options=R.options("index"),
    shell:
        "vlret retrieval index {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule search:
    input:
        unpack(R.reads("search")),
    output:
        **R.made("search"),
    log:
        R.log("search"),
    benchmark:
        R.benchmark("search")
    wildcard_constraints:
        experiment=R.experiments("image", "text", "joint", "dual"),
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        settings=R.known("search"),
        options=R.options("search"),
    shell:
        "vlret retrieval search {params.options} --out {output.out:q} --report {output.report:q} 2>&1 | tee {log:q}"


use rule search as search_mined with:
    input:
        unpack(R.reads("search_mined")),
    output:
        **R.made("search_mined"),
    log:
        R.log("search_mined"),
    benchmark:
        R.benchmark("search_mined")
    params:
        settings=R.known("search_mined"),
        options=R.options("search_mined"),


use rule search as search_ablation with:
    input:
        unpack(R.reads("search_ablation")),
    output:
        **R.made("search_ablation"),
    log:
        R.log("search_ablation"),
    benchmark:
        R.benchmark("search_ablation")
    params:
        settings=R.known("search_ablation"),
        options=R.options("search_ablation"),


rule fuse:
    input:
        unpack(R.reads("fuse")),
    output:
        **R.made("fuse"),
    log:
        R.log("fuse"),
    benchmark:
        R.benchmark("fuse")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("fuse"),
        options=R.options("fuse"),
    shell:
        "vlret retrieval fuse {params.options} --out {output.out:q} --report {output.report:q} 2>&1 | tee {log:q}"
