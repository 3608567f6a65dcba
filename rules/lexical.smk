rule lexical_index:
    input:
        unpack(R.reads("lexical_index")),
    output:
        **R.made("lexical_index"),
    log:
        R.log("lexical_index"),
    benchmark:
        R.benchmark("lexical_index")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("lexical_index"),
        options=R.options("lexical_index"),
    shell:
        "vlret lexical index {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule lexical_tune:
    input:
        unpack(R.reads("lexical_tune")),
    output:
        out=R.made("lexical_tune")["out"],
        heatmap=report(R.made("lexical_tune")["heatmap"], caption="../workflow/report/tuning.rst", category="Tuning"),
    log:
        R.log("lexical_tune"),
    benchmark:
        R.benchmark("lexical_tune")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("lexical_tune"),
        options=R.options("lexical_tune"),
    shell:
        "vlret lexical tune {params.options} --out {output.out:q} --heatmap {output.heatmap:q} 2>&1 | tee {log:q}"


rule lexical_search:
    input:
        unpack(R.reads("lexical_search")),
    output:
        **R.made("lexical_search"),
    log:
        R.log("lexical_search"),
    benchmark:
        R.benchmark("lexical_search")
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        settings=R.known("lexical_search"),
        options=R.options("lexical_search"),
    shell:
        "vlret lexical search {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule join:
    input:
        unpack(R.reads("join")),
    output:
        **R.made("join"),
    log:
        R.log("join"),
    benchmark:
        R.benchmark("join")
    wildcard_constraints:
        experiment=R.experiments("lexical"),
    conda:
        ENVIRONMENT
    params:
        settings=R.known("join"),
        options=R.options("join"),
    shell:
        "vlret lexical join {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


use rule join as foreign with:
    input:
        unpack(R.reads("foreign")),
    output:
        **R.made("foreign"),
    log:
        R.log("foreign"),
    benchmark:
        R.benchmark("foreign")
    wildcard_constraints:
        run=R.constraints["run"],
    params:
        settings=R.known("foreign"),
        options=R.options("foreign"),
