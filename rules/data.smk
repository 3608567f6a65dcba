rule sample:
    input:
        unpack(R.reads("sample")),
    output:
        **R.made("sample"),
    log:
        R.log("sample"),
    benchmark:
        R.benchmark("sample")
    wildcard_constraints:
        dataset=R.datasets("sample"),
    conda:
        ENVIRONMENT
    params:
        settings=R.known("sample"),
        options=R.options("sample"),
    shell:
        'vlret data sample {params.options} --out "$(dirname {output.train:q})" 2>&1 | tee {log:q}'


rule trivia:
    input:
        unpack(R.reads("trivia")),
    output:
        **R.made("trivia"),
    log:
        R.log("trivia"),
    benchmark:
        R.benchmark("trivia")
    wildcard_constraints:
        dataset=R.datasets("trivia"),
    conda:
        ENVIRONMENT
    params:
        settings=R.known("trivia"),
        options=R.options("trivia"),
    shell:
        'vlret data triviaqa {params.options} --out "$(dirname {output.train:q})" --report {output.report:q} 2>&1 | tee {log:q}'


rule articles:
    input:
        unpack(R.reads("articles")),
    output:
        **R.made("articles"),
    log:
        R.log("articles"),
    benchmark:
        R.benchmark("articles")
    wildcard_constraints:
        dataset=R.datasets("sample", "wikipedia"),
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        settings=R.known("articles"),
        options=R.options("articles"),
    shell:
        "vlret data articles {params.options} --out {output.out:q} --report {output.report:q} 2>&1 | tee {log:q}"


rule questions:
    input:
        unpack(R.reads("questions")),
    output:
        **R.made("questions"),
    log:
        R.log("questions"),
    benchmark:
        R.benchmark("questions")
    wildcard_constraints:
        dataset=R.datasets("sample", "questions"),
    conda:
        ENVIRONMENT
    params:
        settings=R.known("questions"),
        options=R.options("questions"),
    shell:
        "vlret data questions {params.options} --out {output.out:q} --report {output.report:q} 2>&1 | tee {log:q}"


rule passages:
    input:
        unpack(R.reads("passages")),
    output:
        **R.made("passages"),
    log:
        R.log("passages"),
    benchmark:
        R.benchmark("passages")
    wildcard_constraints:
        dataset=R.cut(),
    conda:
        ENVIRONMENT
    threads: THREADS
    params:
        settings=R.known("passages"),
        options=R.options("passages"),
    shell:
        "vlret data passages {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule published_passages:
    input:
        unpack(R.reads("published_passages")),
    output:
        **R.made("published_passages"),
    log:
        R.log("published_passages"),
    benchmark:
        R.benchmark("published_passages")
    wildcard_constraints:
        dataset=R.datasets("passages"),
    conda:
        ENVIRONMENT
    params:
        settings=R.known("published_passages"),
        options=R.options("published_passages"),
    shell:
        "vlret data published-passages {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule entities:
    input:
        unpack(R.reads("entities")),
    output:
        **R.made("entities"),
    log:
        R.log("entities"),
    benchmark:
        R.benchmark("entities")
    wildcard_constraints:
        dataset=R.datasets("entities"),
    conda:
        ENVIRONMENT
    params:
        settings=R.known("entities"),
        options=R.options("entities"),
    shell:
        'vlret data entities {params.options} --out "$(dirname {output.articles:q})" 2>&1 | tee {log:q}'


rule normalise:
    input:
        unpack(R.reads("normalise")),
    output:
        **R.made("normalise"),
    log:
        R.log("normalise"),
    benchmark:
        R.benchmark("normalise")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("normalise"),
        options=R.options("normalise"),
    shell:
        "vlret data normalise {params.options} --out {output.out:q} 2>&1 | tee {log:q}"


rule qrels:
    input:
        unpack(R.reads("qrels")),
    output:
        **R.made("qrels"),
    log:
        R.log("qrels"),
    benchmark:
        R.benchmark("qrels")
    conda:
        ENVIRONMENT
    params:
        settings=R.known("qrels"),
        options=R.options("qrels"),
    shell:
        'vlret data qrels {params.options} --out "$(dirname {output.train:q})" --report {output.report:q} 2>&1 | tee {log:q}'
