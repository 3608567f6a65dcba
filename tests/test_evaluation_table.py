"""The table: its numbers, its marks, and that each rendering is valid in its format."""

import csv
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from vlret.evaluation.renderings import figure, mark, marks
from vlret.evaluation.significance import bootstrap_interval, corrected, randomisation_test, t_test
from vlret.evaluation.table import table
from vlret.files import InputError, write_json
from vlret.made import write_note
from vlret.settings import Evaluation

METRICS = ["mrr@100", "precision@1", "hit_rate@5"]
SETTINGS = Evaluation(metrics=METRICS, columns=METRICS, permutations=2000)
PARTS = ("model", "tuning", "prefix", "pooling")
TEST = [f"t{number}" for number in range(120)]
ENTITIES = [f"Q{number // 3}" for number in range(120)]
NASTY = r"50% of <b>A_B</b> & C|D #1 $x^2$ {~\} `*[i]*`"


def row(name, note=""):
    parts = name.split("_") if name.count("_") == 3 else [""] * 4
    return {"name": name, **dict(zip(PARTS, parts, strict=True)), "note": note}


ROWS = [row("bm25"), row("vl_zs_none_avg"), row("vl_full_vqa_avg"), row("vl_full_vqa_1token"), row("a + b", NASTY)]
CHANCES = [0.1, 0.1, 0.6, 0.6, 0.3]  # of a first rank


def first_ranks(chance, questions, generator):
    ranks = np.where(generator.random(len(questions)) < chance, 1, generator.integers(2, 30, size=len(questions)))
    columns = {"mrr@100": 1 / ranks, "precision@1": ranks == 1, "hit_rate@5": ranks <= 5}
    return {metric: values.astype(float).tolist() for metric, values in columns.items()}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    generator = np.random.default_rng(0)
    split = Dataset.from_dict({"id": TEST, "wikidata_id": ENTITIES}).select(generator.permutation(len(TEST)))
    DatasetDict({"test": split}).save_to_disk(str(folder / "questions"))
    paths = []
    for number, (about, chance) in enumerate(zip(ROWS, CHANCES, strict=True)):
        splits = {
            name: {
                "qrels_sha256": name,
                "without_relevant": 7,
                "questions": questions,
                "per_question": first_ranks(chance, questions, generator),
            }
            for name, questions in (("validation", ["v0", "v1", "v2"]), ("test", TEST))
        }
        paths.append(folder / f"{number}.json")
        write_json(paths[-1], {"name": about["name"], "splits": splits})
    return {"metrics": paths[::-1], "questions": folder / "questions", "rows": ROWS, "settings": SETTINGS, "seed": 0}


@pytest.fixture(scope="module")
def out(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "table.tex"
    table(**inputs, out=out)
    return out


@pytest.mark.parametrize(
    ("encoded", "sentence"),
    [
        ([], ""),
        (["bf16", "bf16"], " Encoders: products in bf16, passages' vectors in float16."),
        (
            ["bf16", "bf16", "fp32"],
            " Encoders: products in bf16, passages' vectors in float16; vl_full_vqa_1token: trained in bf16, products "
            "in fp32, passages' vectors in float16.",
        ),
    ],
)
def test_the_caption_says_in_which_precision_rows_were_encoded(inputs, tmp_path, encoded, sentence):
    files = [json.loads(path.read_text()) for path in inputs["metrics"][::-1]]
    for file, precision in zip(files[1:], encoded, strict=False):
        file["encoded"] = {"trained": "bf16", "precision": precision, "stored": "float16"}
    paths = [tmp_path / f"{number}.json" for number in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        write_json(path, file)
    table(**{**inputs, "metrics": paths}, out=tmp_path / "table.tex")
    caption = (tmp_path / "table.md").read_text().partition("\n")[0].replace("\\_", "_")
    assert ("Encoders: " in caption) == bool(sentence)
    assert caption.endswith(f"on which every choice was made.{sentence}")


@pytest.fixture(scope="module")
def values(inputs):
    """Metric → per-question test values `[rows, questions]`, read back from the files."""
    files = [json.loads(path.read_text()) for path in inputs["metrics"][::-1]]
    return {metric: np.array([file["splits"]["test"]["per_question"][metric] for file in files]) for metric in METRICS}


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_letters_continue_after_z_and_three_in_a_row_become_a_range():
    assert [mark(number) for number in (0, 25, 26, 51, 52, 702)] == ["a", "z", "aa", "az", "ba", "aaa"]
    assert marks((0, 1, 2, 5, 7, 8)) == "a–c,f,h,i"
    assert marks((3,)) == "d"
    assert marks((24, 25, 26)) == "y–aa"


def test_figures_have_three_digits():
    assert [figure(value) for value in (0, 0.0004, 0.5226, 0.9996, 1)] == [".000", ".000", ".523", "1.000", "1.000"]


def test_the_csv_holds_means_intervals_and_marks_in_full_precision(out, values):
    rows = read_csv(out.with_suffix(".csv"))
    groups = np.repeat(np.arange(40), 3)
    assert [(line["row"], line["name"]) for line in rows] == [
        (letter, about["name"]) for letter, about in zip("abcde", ROWS, strict=True)
    ]
    for metric, column in values.items():
        (intervals,) = bootstrap_interval(column[None], groups, 0, 2000, 0.95)
        (p,) = randomisation_test(column[None], groups, 2000, 0)
        for number, line in enumerate(rows):
            assert float(line[f"test_{metric}"]) == column[number].mean()
            np.testing.assert_allclose(
                [float(line[f"test_{metric}{end}"]) for end in ("_low", "_high")], intervals[number]
            )
            beaten = [
                letter
                for other, letter in enumerate("abcde")
                if column[number].mean() > column[other].mean() and p[number, other] <= 0.01
            ]
            assert line[f"test_{metric}_beats"].split() == beaten
    assert rows[2]["test_mrr@100_beats"] == "a b e"
    assert rows[1]["test_mrr@100_beats"] == ""
    assert rows[4]["note"] == NASTY


def test_the_p_values_of_all_pairs_are_written(out, values):
    pairs = read_csv(out.with_suffix(".pvalues.csv"))
    assert len(pairs) == 3 * 10
    (p,) = randomisation_test(values["hit_rate@5"][None], np.repeat(np.arange(40), 3), 2000, 0)
    found = next(pair for pair in pairs if (pair["metric"], pair["a"], pair["b"]) == ("hit_rate@5", "bm25", "a + b"))
    assert float(found["p"]) == float(found["corrected"]) == p[0, 4]
    assert float(found["difference"]) == values["hit_rate@5"][0].mean() - values["hit_rate@5"][4].mean()


def test_markdown_shows_what_the_csv_says(out):
    text = out.with_suffix(".md").read_text()
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line] for line in lines]
    assert head == [
        "", "Model", "Tuning", "Prefix", "Pooling",
        "Validation MRR@100", "Test MRR@100", "95\u00a0% interval", "P@1", "Hit@5",
    ]  # fmt: skip
    assert [line[:5] for line in body] == [
        ["a", "bm25", "", "", ""],
        ["b", "vl", "zs", "–", "avg"],
        ["c", "vl", "full", "vqa", "avg"],
        ["d", "vl", "full", "vqa", "1token"],
        ["e", "a + b", "", "", ""],
    ]
    rows = read_csv(out.with_suffix(".csv"))
    best = max(float(line["test_mrr@100"]) for line in rows)
    for cells, line in zip(body, rows, strict=True):
        assert figure(float(line["validation_mrr@100"])) in cells[5]
        assert figure(float(line["test_mrr@100"])) in cells[6]
        assert cells[6].startswith("**") == (float(line["test_mrr@100"]) == best)
        assert cells[7] == "–".join(figure(float(line[f"test_mrr@100_{end}"])) for end in ("low", "high"))
        assert figure(float(line["test_hit_rate@5"])) in cells[9]
    assert "<sup>a,b,e</sup>" in body[2][6]
    assert r"50% of &lt;b&gt;A\_B&lt;/b&gt; &amp; C\|D" in text


def test_the_caption_states_the_facts(out):
    for suffix in (".tex", ".md", ".html"):
        text = out.with_suffix(suffix).read_text().replace("&#x27;", "'").replace(r"$\le$", "≤")
        for fact in (
            "120 test questions (7 of them without relevant passage, counted as zero) about 40 entities",
            "the same static qrels",
            "Fisher's randomisation test, two-sided, 2,000 permutations, questions of one entity swapped together",
            "p ≤ 0.01",
            "seed 0",
            "over 3 questions",
        ):
            assert fact in text, (suffix, fact)


def test_the_caption_states_dynamic_qrels(inputs, tmp_path):
    table(**(inputs | {"settings": SETTINGS.model_copy(update={"qrels": "dynamic"})}), out=tmp_path / "t.tex")
    for suffix in (".tex", ".md", ".html"):
        text = (tmp_path / "t.tex").with_suffix(suffix).read_text()
        assert (
            "the same dynamic qrels, pooled over all of them (choices on validation were made by static ones)" in text
        )
        assert "if any row retrieves it and it contains an answer, whatever its article" in text
        assert "same static" not in text


def test_the_caption_states_how_answers_were_matched_unless_by_meerqats_rule(inputs, out, tmp_path):
    table(**inputs, out=tmp_path / "t.tex", matching="whole-words")
    for suffix in (".tex", ".md", ".html"):
        text = (tmp_path / "t.tex").with_suffix(suffix).read_text()
        assert "by the rule whole-words: a passage contains one if no letter, digit or mark is next to it." in text
        assert "Answers are matched" not in out.with_suffix(suffix).read_text()


def test_equal_figures_are_equally_bold(inputs, tmp_path):
    twin = [row("bm25"), row("twin")]
    metrics = [tmp_path / "0.json", tmp_path / "1.json"]
    shutil.copy(inputs["metrics"][-1], metrics[0])
    metrics[1].write_text(metrics[0].read_text().replace('"name": "bm25"', '"name": "twin"'))
    table(**(inputs | {"metrics": metrics, "rows": twin}), out=tmp_path / "t.tex")
    assert (tmp_path / "t.tex").read_text().count(r"\textbf{") == 2 * 4
    assert r"\textsuperscript" not in (tmp_path / "t.tex").read_text()
    assert read_csv(tmp_path / "t.pvalues.csv")[0]["p"] == "1.0"


def test_units_can_be_single_questions(inputs, out, tmp_path):
    table(**(inputs | {"settings": SETTINGS.model_copy(update={"groups": "question"})}), out=tmp_path / "t.tex")
    assert "bootstrap over questions" in (tmp_path / "t.md").read_text()
    assert "swapped together" not in (tmp_path / "t.md").read_text()
    assert read_csv(tmp_path / "t.pvalues.csv") != read_csv(out.with_suffix(".pvalues.csv"))


@pytest.mark.parametrize("test", ["randomisation", "t"])
@pytest.mark.parametrize(
    ("correction", "words"),
    [
        ("none", "p ≤ 0.05 without correction for the number of comparisons"),
        ("holm", "p ≤ 0.05 after Holm's correction for the 10 pairs of rows"),
        ("benjamini-hochberg", "p ≤ 0.05 after Benjamini and Hochberg's correction for the 10 pairs of rows"),
    ],
)
def test_tests_and_corrections_decide_the_marks_and_are_in_the_caption(
    inputs, values, tmp_path, test, correction, words
):
    settings = SETTINGS.model_copy(update={"test": test, "correction": correction, "p": 0.05})
    table(**(inputs | {"settings": settings}), out=tmp_path / "t.tex")
    groups, stacked = np.repeat(np.arange(40), 3), np.stack(list(values.values()))
    p = t_test(stacked, groups) if test == "t" else randomisation_test(stacked, groups, 2000, 0)
    adjusted = corrected(p, correction)
    for pair, plain, after in zip(
        read_csv(tmp_path / "t.pvalues.csv"),
        (value for matrix in p for value in matrix[np.triu_indices(5, 1)]),
        (value for matrix in adjusted for value in matrix[np.triu_indices(5, 1)]),
        strict=True,
    ):
        assert (float(pair["p"]), float(pair["corrected"])) == (plain, after)
    for number, line in enumerate(read_csv(tmp_path / "t.csv")):
        lower = values["mrr@100"].mean(axis=1) < values["mrr@100"][number].mean()
        beaten = np.flatnonzero(lower & (adjusted[0, number] <= 0.05))
        assert line["test_mrr@100_beats"].split() == [mark(row) for row in beaten]
    text = (tmp_path / "t.md").read_text()
    assert words in text
    assert ("paired t-test, two-sided, over the sums of the questions of each entity" in text) == (test == "t")
    assert ("Fisher's randomisation test" in text) == (test == "randomisation")


def test_too_few_permutations_for_significance_are_refused(inputs, tmp_path):
    holm = SETTINGS.model_copy(update={"correction": "holm"})
    with pytest.raises(InputError, match=r"998 cannot yield p .* \(correction holm, 5 rows\); set 999 or more"):
        table(**(inputs | {"settings": holm.model_copy(update={"permutations": 998})}), out=tmp_path / "t.tex")
    table(**(inputs | {"settings": holm.model_copy(update={"permutations": 999})}), out=tmp_path / "t.tex")
    with pytest.raises(InputError, match="98 cannot yield p"):
        table(**(inputs | {"settings": SETTINGS.model_copy(update={"permutations": 98})}), out=tmp_path / "t.tex")


def test_the_t_test_of_a_single_entity_is_refused(inputs, tmp_path):
    split = Dataset.from_dict({"id": TEST, "wikidata_id": ["Q1"] * len(TEST)})
    DatasetDict({"test": split}).save_to_disk(str(tmp_path / "questions"))
    changes = {"settings": SETTINGS.model_copy(update={"test": "t"}), "questions": tmp_path / "questions"}
    with pytest.raises(InputError, match="all test questions are about one entity"):
        table(**(inputs | changes), out=tmp_path / "t.tex")


def test_the_same_input_gives_the_same_bytes(inputs, out, tmp_path):
    table(**inputs, out=tmp_path / "table.tex")
    for suffix in (".tex", ".csv", ".md", ".html", ".pvalues.csv"):
        assert (tmp_path / "table.tex").with_suffix(suffix).read_bytes() == out.with_suffix(suffix).read_bytes()
    assert len(list(tmp_path.iterdir())) == 5


class Outline(HTMLParser):
    """Checks that tags close in order; keeps the cell count of each row, external links, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.links, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += int(dict(attributes).get("colspan", 1))
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "circle", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_self_contained_and_its_tags_close(out):
    outline = Outline()
    outline.feed(out.with_suffix(".html").read_text())
    outline.close()
    assert outline.open == []
    assert outline.links == []
    assert outline.rows == [10] * 6
    assert NASTY in outline.text
    assert 'title="significantly better than bm25, vl_zs_none_avg, a + b"' in out.with_suffix(".html").read_text()


def test_the_latex_has_as_many_cells_in_every_row(out):
    text = out.read_text()
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 5
    for line in rows:
        wide = 3 if r"\multicolumn{4}" in line else 0
        assert len(re.findall(r"(?<!\\)&", line)) + wide == 9
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert body.count(r"\addlinespace") == 2


def test_the_latex_compiles(out, tmp_path):
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("not compiled: no pdflatex; the test above checks the structure")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\usepackage{graphicx}\n"
        f"\\begin{{document}}\n{out.read_text()}\\end{{document}}\n"
    )
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert made.returncode == 0, made.stdout[-2000:]
    assert "Missing character" not in made.stdout
    assert "Overfull" not in made.stdout


def test_rows_and_files_that_do_not_match_are_refused(inputs, tmp_path):
    def refused(message, **changes):
        with pytest.raises(InputError, match=message):
            table(**(inputs | changes), out=tmp_path / "t.tex")
        assert list(tmp_path.glob("t.*")) == []

    refused("row new has no metrics: its file is missing", rows=[*ROWS, row("new")])
    refused(r"0\.json needs one row called bm25, found 0", rows=ROWS[1:])
    refused(r"needs one row called bm25, found 2", rows=[*ROWS, row("bm25")])
    refused(r"metrics of a \+ b were already read from", metrics=[*inputs["metrics"], inputs["metrics"][0]])
    refused("no test question t0", questions=_questions(tmp_path, ["other"]))
    write_json(tmp_path / "no.json", {"b": 1})
    refused(r"no\.json: no `name` and `splits`", metrics=[*inputs["metrics"], tmp_path / "no.json"])
    write_json(tmp_path / "half.json", {"name": "b", "splits": {"test": {}}})
    refused(
        r"half\.json: no metrics of validation: a table needs both",
        metrics=[*inputs["metrics"], tmp_path / "half.json"],
    )
    other = tmp_path / "other.json"
    other.write_text(inputs["metrics"][0].read_text().replace('"qrels_sha256": "test"', '"qrels_sha256": "x"'))
    refused("test qrels differ from those of .*: judge all rows alike", metrics=[*inputs["metrics"][1:], other])
    settings = SETTINGS.model_copy(update={"metrics": ["mrr@100", "mrr@7"]})
    refused(r"4\.json: no values of mrr@7", settings=settings)


def _questions(folder, identifiers):
    split = Dataset.from_dict({"id": identifiers, "wikidata_id": ["Q1"] * len(identifiers)})
    DatasetDict({"test": split}).save_to_disk(str(folder / "questions"))
    return folder / "questions"


@pytest.mark.slow
def test_a_hundred_rows_are_quick(tmp_path):
    """A table of 100 runs of ViQuAE's size, all metrics and all pairs: under a minute on 2 cores, files and all."""
    settings = Evaluation()
    rows = [row(f"run{number}") for number in range(100)]
    generator, questions = np.random.default_rng(0), [f"t{number}" for number in range(1257)]
    DatasetDict({"test": Dataset.from_dict({"id": questions, "wikidata_id": questions})}).save_to_disk(
        str(tmp_path / "questions")
    )
    metrics = [tmp_path / f"{about['name']}.json" for about in rows]
    for path, about in zip(metrics, rows, strict=True):
        columns = {metric: generator.random(1257).tolist() for metric in settings.metrics}
        split = {"qrels_sha256": "x", "without_relevant": 0, "questions": questions, "per_question": columns}
        write_json(path, {"name": about["name"], "splits": {"validation": split, "test": split}})
    start = time.process_time()
    table(metrics, tmp_path / "questions", rows, settings, 0, tmp_path / "t.tex")
    assert time.process_time() - start < 60
    assert len(read_csv(tmp_path / "t.pvalues.csv")) == 15 * 4950


def test_a_metric_that_is_not_shown_is_only_in_the_csv_files(inputs, tmp_path):
    settings = SETTINGS.model_copy(update={"columns": ["precision@1", "mrr@100"]})
    table(**{**inputs, "settings": settings}, out=tmp_path / "t.tex")
    for suffix in (".tex", ".md", ".html"):
        text = (tmp_path / "t").with_suffix(suffix).read_text()
        assert "Hit@5" not in text
        assert "Validation P@1" in text or "Validation & " in text
    assert "test_hit_rate@5" in (tmp_path / "t.csv").read_text()
    assert "hit_rate@5," in (tmp_path / "t.pvalues.csv").read_text()


def test_a_partial_table_names_the_missing_rows(inputs, tmp_path):
    rows = [*ROWS, row("late_zs_none_avg")]
    with pytest.raises(InputError, match="row late_zs_none_avg has no metrics"):
        table(**(inputs | {"rows": rows}), out=tmp_path / "table.tex")
    table(**(inputs | {"rows": rows}), out=tmp_path / "table.tex", partial=True)
    assert len(read_csv(tmp_path / "table.csv")) == len(ROWS)
    for suffix in ("md", "html"):
        assert re.search(r"Not done yet: late.*avg\.", (tmp_path / f"table.{suffix}").read_text())


def test_a_row_made_with_other_settings_is_never_shown(inputs, tmp_path):
    for path in inputs["metrics"]:
        shutil.copy(path, tmp_path / path.name)
        write_note(tmp_path / path.name, {"digest": path.stem})
    changes = {"metrics": [tmp_path / path.name for path in inputs["metrics"]]}
    changes["rows"] = [{**about, "made": str(number)} for number, about in enumerate(ROWS)]
    table(**(inputs | changes), out=tmp_path / "table.tex")
    changes["rows"][2]["made"] = "other"
    with pytest.raises(
        InputError, match=f"row {ROWS[2]['name']} was made with settings other than the config's: make .*2.json"
    ):
        table(**(inputs | changes), out=tmp_path / "table.tex")


def test_an_error_leaves_the_older_table(inputs, tmp_path):
    table(**inputs, out=tmp_path / "table.tex")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="permutations"):
        table(**(inputs | {"settings": SETTINGS.model_copy(update={"p": 1e-9})}), out=tmp_path / "table.tex")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_of_metrics_is_read_like_its_files(inputs, tmp_path):
    for path, about in zip(inputs["metrics"][::-1], ROWS, strict=True):
        shutil.copy(path, tmp_path / f"{about['name']}.json")
    table(**inputs, out=tmp_path / "files" / "table.tex")
    table(**(inputs | {"metrics": [tmp_path]}), out=tmp_path / "folder" / "table.tex")
    for name in ("table.csv", "table.md", "table.html", "table.tex"):
        assert (tmp_path / "files" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()


def test_latex_and_html_state_their_origin(out):
    for suffix in (".tex", ".html"):
        assert re.search(
            r"vlret \S+( \(\w+\+?\))?, config [0-9a-f]{16}, \d{4}-\d\d-\d\d", out.with_suffix(suffix).read_text()
        )
