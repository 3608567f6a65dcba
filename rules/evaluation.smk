rule pool:
    input:
        unpack(R.reads("pool")),
    output:
        **R.made("pool"),
    log:
        R.log("pool"),
    benchmark:
        R.benchmark("pool")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("pool"),
        options=R.options("pool"),
    shell:
        'vlret data pool {params.options} --out "$(dirname {output.validation:q})" --report {output.report:q} 2>&1 | tee {log:q}'


rule metrics:
    input:
        unpack(R.reads("metrics")),
    output:
        **R.made("metrics"),
    log:
        R.log("metrics"),
    benchmark:
        R.benchmark("metrics")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("metrics"),
        options=R.options("metrics"),
    shell:
        "vlret evaluation metrics {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


use rule metrics as metrics_dynamic with:
    input:
        unpack(R.reads("metrics_dynamic")),
    output:
        **R.made("metrics_dynamic"),
    log:
        R.log("metrics_dynamic"),
    benchmark:
        R.benchmark("metrics_dynamic")
    params:
        settings=R.known("metrics_dynamic"),
        options=R.options("metrics_dynamic"),


rule table:
    input:
        unpack(R.reads("table")),
    output:
        **{
            name: update(report(path, caption=f"../workflow/report/{caption}.rst", category="Results"))
            for name, path in R.made("table").items()
            for caption in ["pvalues" if name == "pvalues" else "table"]
        },
    log:
        R.log("table"),
    benchmark:
        R.benchmark("table")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("table"),
        options=R.options("table"),
    shell:
        "vlret evaluation table {params.options} --out {output.tex:q} 2>&1 | tee {log:q}"
