"""Runs and qrels: order, files, and metrics against hand-computed cases and ranx."""

import gzip
import subprocess
import sys

import numpy as np
import pytest

from vlret import runs
from vlret.files import InputError
from vlret.runs import Ranking

METRICS = ["mrr@100", "mrr@2", "precision@1", "precision@2", "precision@5", "hit_rate@1", "hit_rate@2", "hit_rate@5"]


def ranking(passages, scores=None):
    passages = np.array(passages, dtype=np.int64)
    scores = -np.arange(len(passages), dtype=np.float64) if scores is None else np.array(scores, dtype=np.float64)
    return Ranking(passages, scores)


def test_passage_ids_have_fixed_width_and_round_trip():
    assert [runs.passage_id(row) for row in (0, 42, 12_345_678)] == ["00000000", "00000042", "12345678"]
    assert runs.passage_row("00000042") == runs.passage_row("42") == 42
    for wrong in ("", "0000004x", "+0000042", "-1", "1_0", "4.0", "٠٠٠٠٠٠٤٢", "000000042", "²"):
        with pytest.raises(ValueError, match="8 digits"):
            runs.passage_row(wrong)
    with pytest.raises(InputError, match="100000000"):
        runs.passage_id(10**8)


def test_equal_scores_are_ordered_by_passage_even_across_the_cut():
    passages = np.array([9, 3, 7, 1, 5])
    scores = np.array([1.0, 2.0, 1.0, 1.0, 0.5])
    assert runs.sort_ranking(passages, scores).passages.tolist() == [3, 1, 7, 9, 5]
    assert runs.sort_ranking(passages, scores, 2).passages.tolist() == [3, 1]
    assert runs.sort_ranking(passages, scores, 3).scores.tolist() == [2.0, 1.0, 1.0]
    assert len(runs.sort_ranking(passages, scores, 0).passages) == 0
    assert len(runs.sort_ranking(passages, scores, 99).passages) == 5
    with pytest.raises(ValueError, match="NaN"):
        runs.sort_ranking(passages, np.array([1, np.nan, 1, 1, 1]))


def test_the_cut_equals_that_of_a_full_sort():
    generator = np.random.default_rng(0)
    for k in (1, 10, 100, 499, 500):
        passages = generator.permutation(10_000)[:500]
        scores = generator.integers(0, 20, size=500).astype(float)
        expected = sorted(zip(-scores, passages, strict=True))[:k]
        assert runs.sort_ranking(passages, scores, k).passages.tolist() == [passage for _, passage in expected]


def test_a_run_round_trips_exactly(tmp_path):
    generator = np.random.default_rng(1)
    written = {
        f"q{index}": runs.sort_ranking(generator.permutation(1000)[:50], generator.normal(size=50) / 3)
        for index in (3, 1, 2)
    }
    written["q0"] = ranking([4, 2], [-1e-300, np.float64(np.float32(-0.1))])
    runs.write_run(tmp_path / "runs" / "a.trec", written, "a")
    read = runs.read_run(tmp_path / "runs" / "a.trec")
    assert list(read) == list(written)
    for question, expected in written.items():
        assert read[question].passages.tolist() == expected.passages.tolist()
        assert read[question].scores.tolist() == expected.scores.tolist()
        assert read[question].passages.dtype == np.int64
    assert (tmp_path / "runs" / "a.trec").read_text().splitlines()[-1] == "q0 Q0 00000002 2 -0.10000000149011612 a"


def test_runs_are_sorted_when_written_and_read(tmp_path):
    runs.write_run(tmp_path / "a.trec", {"q": ranking([5, 2, 9], [1, 3, 3])}, "a")
    lines = [line.split()[2:5] for line in (tmp_path / "a.trec").read_text().splitlines()]
    assert lines == [["00000002", "1", "3.0"], ["00000009", "2", "3.0"], ["00000005", "3", "1.0"]]
    (tmp_path / "b.trec").write_text("q Q0 00000005 1 1 b\n\nq Q0 00000002 2 3 b\n")
    assert runs.read_run(tmp_path / "b.trec")["q"].passages.tolist() == [2, 5]


def test_qrels_keep_order_and_questions_without_relevant_passage(tmp_path):
    written = {"b": {7, 3}, "a": set(), "c": {0}}
    runs.write_qrels(tmp_path / "q.trec", written)
    assert (tmp_path / "q.trec").read_text() == ("b 0 00000003 1\nb 0 00000007 1\na 0 00000000 0\nc 0 00000000 1\n")
    read = runs.read_qrels(tmp_path / "q.trec")
    assert read == written
    assert list(read) == list(written)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 00000001 1 0.5", "line 2: expected 6 fields, found 5"),
        ("q Q0 doc1 1 0.5 a", "line 2: passage id 'doc1' is not a row number of at most 8 digits"),
        ("q Q0 00000001 1 high a", "line 2: score 'high' is not a finite number"),
        ("q Q0 00000001 1 nan a", "line 2: score 'nan' is not a finite number"),
        ("q Q0 00000001 1 1_000 a", "line 2: score '1_000' is not a finite number"),
        ("q Q0 00000001 1 \N{FULLWIDTH DIGIT ONE} a", "line 2: score '\N{FULLWIDTH DIGIT ONE}' is not a finite number"),
        ("q Q0 00000001 1 -inf a", "line 2: score '-inf' is not a finite number"),
        ("q Q0 00000001 1 1e999 a", "line 2: score 1e999 is not finite"),
        ("q Q0 00000001 1 0.5 a b", "line 2: expected 6 fields, found 7"),
        ("q Q0 9 1 0.5 a", "line 2: passage 9 is listed twice for question q"),
        ("q Q0 00000009 1 0.5 a", "line 2: passage 00000009 is listed twice for question q"),
    ],
)
def test_a_bad_line_of_a_run_is_named(tmp_path, line, message):
    (tmp_path / "bad.trec").write_text(f"q Q0 00000009 1 0.9 a\n{line}\n")
    with pytest.raises(InputError, match=message) as caught:
        runs.read_run(tmp_path / "bad.trec")
    assert "bad.trec" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["q 0 1 1_0", "q 0 1 1.0", "q 0 1 nan", "q 0 x 1", "q 0 1", "q 0 7 0"])
def test_a_bad_line_of_qrels_is_named(tmp_path, line):
    (tmp_path / "bad.trec").write_text(f"q 0 7 1\n{line}\n")
    with pytest.raises(InputError, match=r"bad\.trec, line 2: ") as caught:
        runs.read_qrels(tmp_path / "bad.trec")
    assert "\n" not in str(caught.value)


RUN, QRELS = (
    "é1 Q0 42 1 9.5 BM25\né1 Q0 3 2 9.25 BM25\nq2 Q0 7 1 3e0 BM25\n",
    "é1 0 42 1\nq2 0 7 2\nq2 0 7 2\nq2 0 8 -1\n",
)


@pytest.mark.parametrize("suffix", ["trec", "trec.gz"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(" ", "\t").encode(),
        lambda text: text.replace("\n", "  \n\n").rstrip().encode(),
    ],
)
def test_foreign_files_are_read_as_intended(tmp_path, change, suffix):
    pack = gzip.compress if suffix == "trec.gz" else bytes
    (tmp_path / f"run.{suffix}").write_bytes(pack(change(RUN)))
    (tmp_path / f"qrels.{suffix}").write_bytes(pack(change(QRELS)))
    read = runs.read_run(tmp_path / f"run.{suffix}")
    found = {question: dict(zip(*map(list, ranking), strict=True)) for question, ranking in read.items()}
    assert found == {"é1": {42: 9.5, 3: 9.25}, "q2": {7: 3}}
    assert runs.read_qrels(tmp_path / f"qrels.{suffix}") == {"é1": {42}, "q2": {7}}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32"])
def test_other_encodings_are_refused_in_one_line(tmp_path, encoding):
    for name, text, read in (("run", RUN, runs.read_run), ("qrels", QRELS, runs.read_qrels)):
        (tmp_path / name).write_bytes(text.encode(encoding))
        with pytest.raises(InputError, match=rf"{name}, line 1: not UTF-8 .*; convert the file") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_missing_empty_and_malformed_files_are_named(tmp_path):
    (tmp_path / "empty.trec").write_text("")
    (tmp_path / "bad.trec").write_text("q 0 00000001 yes\n")
    with pytest.raises(InputError, match=r"gone\.trec: no such file"):
        runs.read_run(tmp_path / "gone.trec")
    with pytest.raises(InputError, match=r"empty\.trec: no question"):
        runs.read_qrels(tmp_path / "empty.trec")
    with pytest.raises(InputError, match=r"bad\.trec, line 1"):
        runs.read_qrels(tmp_path / "bad.trec")
    with pytest.raises(InputError, match="white space"):
        runs.write_run(tmp_path / "x.trec", {"two words": ranking([1])}, "x")
    with pytest.raises(InputError, match="white space"):
        runs.write_run(tmp_path / "x.trec", {"q": ranking([1])}, "")
    assert not (tmp_path / "x.trec").exists()


def test_metrics_equal_a_hand_computed_case():
    qrels = {"third": {5}, "first_two": {1, 2, 8}, "none_found": {6}, "late": {0}}
    run = {
        "late": ranking([9, 8, 7, 6, 5, 0]),
        "first_two": ranking([2, 1, 3]),
        "third": ranking([1, 2, 5, 3]),
        "none_found": ranking([1, 2, 3]),
        "unasked": ranking([1]),
    }
    values = runs.per_question(run, qrels, METRICS)
    assert {metric: column.tolist() for metric, column in values.items()} == {
        "mrr@100": [1 / 3, 1, 0, 1 / 6],
        "mrr@2": [0, 1, 0, 0],
        "precision@1": [0, 1, 0, 0],
        "precision@2": [0, 1, 0, 0],
        "precision@5": [1 / 5, 2 / 5, 0, 0],
        "hit_rate@1": [0, 1, 0, 0],
        "hit_rate@2": [0, 1, 0, 0],
        "hit_rate@5": [1, 1, 0, 0],
    }


def test_questions_without_results_or_without_relevant_passage_count_as_zero():
    qrels = {"missing": {1}, "empty": {2}, "irrelevant": set(), "zero": {0}, "fine": {3}}
    run = {
        "fine": ranking([3]),
        "empty": ranking([]),
        "irrelevant": ranking([0, 1]),
        "zero": ranking([0]),
    }
    values = runs.per_question(run, qrels, METRICS)
    assert values["mrr@100"].tolist() == [0, 0, 0, 1, 1]
    assert values["precision@1"].tolist() == [0, 0, 0, 1, 1]
    assert values["hit_rate@5"].tolist() == [0, 0, 0, 1, 1]
    assert all(not column.any() for column in runs.per_question({}, qrels, METRICS).values())


def test_ties_count_by_passage_row(tmp_path):
    runs.write_run(tmp_path / "a.trec", {"q": ranking([30, 20, 10], [1, 1, 1])}, "a")
    run = runs.read_run(tmp_path / "a.trec")
    for relevant, expected in ((10, 1), (20, 1 / 2), (30, 1 / 3)):
        assert runs.per_question(run, {"q": {relevant}}, ["mrr@100"])["mrr@100"].tolist() == [expected]


def test_metrics_equal_a_loop_on_random_runs():
    generator = np.random.default_rng(2)
    qrels, run = {}, {}
    for index in range(60):
        qrels[f"q{index}"] = set(generator.permutation(300)[: generator.integers(0, 6)].tolist())
        run[f"q{index}"] = ranking(generator.permutation(300)[: generator.integers(0, 120)])
    values = runs.per_question(run, qrels, METRICS)
    for index, (question, relevant) in enumerate(qrels.items()):
        hits = [passage in relevant for passage in run[question].passages.tolist()]
        for metric, column in values.items():
            name, k = metric.split("@")
            top = hits[: int(k)]
            expected = {
                "mrr": 1 / (top.index(True) + 1) if any(top) else 0,
                "precision": sum(top) / int(k),
                "hit_rate": float(any(top)),
            }[name]
            assert column[index] == expected, (question, metric)


def test_unknown_metrics_are_refused():
    for metric in ("mrr", "bleu@4", "mrr@0", "mrr@x", "hit_rate@"):
        with pytest.raises(InputError, match="unknown"):
            runs.per_question({}, {"q": {1}}, [metric])


def test_a_compressed_run_has_the_same_lines_and_reproducible_bytes(tmp_path):
    run = {"é1": ranking([3, 1, 2], [0.1, 0.1, -4]), "q2": ranking([7])}
    qrels = {"é1": {3}, "q2": set()}
    for name in ("a.trec", "a.trec.gz", "other/b.trec.gz"):
        runs.write_run(tmp_path / name, run, "tag")
    assert gzip.decompress((tmp_path / "a.trec.gz").read_bytes()) == (tmp_path / "a.trec").read_bytes()
    assert (tmp_path / "a.trec.gz").read_bytes() == (tmp_path / "other/b.trec.gz").read_bytes()
    for name in ("a.trec", "a.trec.gz"):
        read = runs.read_run(tmp_path / name)
        assert {question: found.passages.tolist() for question, found in read.items()} == {"é1": [1, 3, 2], "q2": [7]}
    runs.write_qrels(tmp_path / "q.trec.gz", qrels)
    assert runs.read_qrels(tmp_path / "q.trec.gz") == qrels
    assert [runs.run_name(f"x/{name}") for name in ("a.b.trec", "a.trec.gz", "a")] == ["a.b", "a", "a"]


def test_a_broken_compressed_run_is_named(tmp_path):
    runs.write_run(tmp_path / "a.trec.gz", {"q": ranking(range(50))}, "tag")
    whole = (tmp_path / "a.trec.gz").read_bytes()
    (tmp_path / "plain.trec.gz").write_text("q Q0 00000001 1 0.5 a\n")
    (tmp_path / "cut.trec.gz").write_bytes(whole[:-20])
    (tmp_path / "spoilt.trec.gz").write_bytes(whole[:40] + b"spoilt" + whole[46:])
    for name in ("plain", "cut", "spoilt"):
        with pytest.raises(InputError, match=rf"{name}\.trec\.gz: not a complete gzip file"):
            runs.read_run(tmp_path / f"{name}.trec.gz")


@pytest.fixture
def hard(tmp_path):
    """Files of a run and qrels that trip ranx: ties, questions missing or without relevant passages."""
    generator = np.random.default_rng(5)
    qrels, run = {}, {}
    for number in range(40):
        qrels[f"q{number}"] = set(generator.permutation(60)[: generator.integers(1, 6)].tolist())
        scores = generator.integers(0, 4, size=30) / 3
        run[f"q{number}"] = runs.sort_ranking(generator.permutation(60)[:30], scores)
    qrels["lost"], qrels["empty"], qrels["bare"] = {1}, {2}, set()
    run["empty"], run["bare"], run["unasked"] = ranking([]), ranking([4, 5]), ranking([1])
    runs.write_qrels(tmp_path / "qrels.trec", qrels)
    for suffix in ("trec", "trec.gz"):
        runs.write_run(tmp_path / f"run.{suffix}", run, "run")
    return tmp_path, run, qrels


@pytest.mark.parametrize("suffix", ["trec", "trec.gz"])
def test_ranx_reads_what_we_write_and_measures_the_same(hard, suffix):
    """With an entry for every question and distinct scores: ranx orders ties arbitrarily."""
    from ranx import Qrels, Run, evaluate

    folder, run, qrels = hard
    theirs = Run.from_file(str(folder / f"run.{suffix}"), kind="gz" if suffix == "trec.gz" else "trec")
    assert theirs.name == "run"
    read = theirs.to_dict()
    assert set(read) == set(run) - {"empty"}
    for question, scores in read.items():
        assert dict(scores) == {
            runs.passage_id(row): score
            for row, score in zip(run[question].passages.tolist(), run[question].scores.tolist(), strict=True)
        }
    complete = {
        question: {
            runs.passage_id(row): -float(rank)
            for rank, row in enumerate(run[question].passages if question in run else ())
        }
        or {"none": 0.0}
        for question in qrels
    }
    judged = Qrels.from_file(str(folder / "qrels.trec"), kind="trec")
    expected = evaluate(judged, Run.from_dict(complete), METRICS, return_mean=False)
    values = runs.per_question(runs.read_run(folder / f"run.{suffix}"), runs.read_qrels(folder / "qrels.trec"), METRICS)
    order = [list(qrels).index(question) for question in sorted(qrels)]
    for metric in METRICS:
        np.testing.assert_array_equal(values[metric][order], expected[metric])


def test_cases_that_ranx_gets_wrong(hard):
    """In ranx a question missing from the run is an error or left out, and an empty ranking is impossible."""
    from ranx import Qrels, Run, evaluate

    folder, run, qrels = hard
    judged, theirs = Qrels.from_file(str(folder / "qrels.trec"), kind="trec"), Run.from_file(str(folder / "run.trec"))
    with pytest.raises(AssertionError, match="do not match"):
        evaluate(judged, theirs, "mrr@100")
    with pytest.raises(ValueError, match="empty"):
        Run.from_dict({"empty": {}})
    values = runs.per_question(run, qrels, METRICS)
    assert all(len(column) == len(qrels) == 43 for column in values.values())
    assert all(column[-3:].tolist() == [0, 0, 0] for column in values.values())


def test_pytrec_eval_reads_what_we_write_and_measures_the_same(hard):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    folder, _, qrels = hard
    with open(folder / "run.trec") as lines:
        run = pytrec_eval.parse_run(lines)
    with open(folder / "qrels.trec") as lines:
        judged = pytrec_eval.parse_qrel(lines)
    # It orders ties by descending id: with ranks as scores there are none.
    ranked = {question: {row: -float(rank) for rank, row in enumerate(found)} for question, found in run.items()}
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank", "P_5", "success_5"}).evaluate(ranked)
    values = runs.per_question(runs.read_run(folder / "run.trec"), qrels, ["mrr@100", "precision@5", "hit_rate@5"])
    for place, question in enumerate(qrels):
        ours = [values[name][place] for name in ("mrr@100", "precision@5", "hit_rate@5")]
        expected = [theirs.get(question, {}).get(name, 0.0) for name in ("recip_rank", "P_5", "success_5")]
        assert ours == pytest.approx(expected)


def test_reading_runs_needs_neither_torch_nor_ranx():
    code = "import sys, vlret.runs; print([name for name in ('torch', 'ranx', 'numba') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
