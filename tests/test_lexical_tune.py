"""The tuning surface against single searches and their metrics."""

from xml.etree import ElementTree

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from vlret.files import InputError, read_json
from vlret.lexical.heatmap import draw
from vlret.lexical.index import Index, build
from vlret.lexical.search import Searcher
from vlret.lexical.tune import axis, tune
from vlret.runs import per_question, read_qrels, write_qrels
from vlret.settings import Analysis, Range

PLAIN = Analysis()
GRID = {"b": Range(start=0, stop=1, step=0.5), "k1": Range(start=0, stop=3, step=1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """300 passages of few distinct words, so scores often tie, and 30 questions, a third without relevant passages."""
    folder = tmp_path_factory.mktemp("tune")
    generator = np.random.default_rng(3)
    words = [f"w{number}" for number in range(30)]
    texts = [" ".join(generator.choice(words, size=length)) for length in generator.integers(1, 12, size=300)]
    Dataset.from_dict({"title": [""] * 300, "text": texts}).save_to_disk(str(folder / "passages"))
    build(folder / "passages", PLAIN, folder / "index")
    ids = [f"q{number}" for number in range(30)]
    inputs = [" ".join(generator.choice(words, size=4)) for _ in ids]
    DatasetDict({"validation": Dataset.from_dict({"id": ids, "input": inputs})}).save_to_disk(str(folder / "questions"))
    relevant = {name: set(generator.integers(0, 300, size=number % 3).tolist()) for number, name in enumerate(ids)}
    write_qrels(folder / "qrels.trec", relevant)
    return folder


def test_every_point_equals_a_single_search(folder, tmp_path):
    tune(
        folder / "index",
        folder / "questions",
        folder / "qrels.trec",
        **GRID,
        out=tmp_path / "tuning.json",
        heatmap=tmp_path / "map.svg",
    )
    tuned = read_json(tmp_path / "tuning.json")
    assert [(point["b"], point["k1"]) for point in tuned["surface"]] == [
        (b, k1) for b in (0.0, 0.5, 1.0) for k1 in (0.0, 1.0, 2.0, 3.0)
    ]
    index, qrels = Index(folder / "index"), read_qrels(folder / "qrels.trec")
    texts = DatasetDict.load_from_disk(str(folder / "questions"))["validation"]
    for point in tuned["surface"]:
        searcher = Searcher(index, point["b"], point["k1"])
        run = {row["id"]: searcher.rank(row["input"], 100) for row in texts}
        assert per_question(run, qrels, ["mrr@100"])["mrr@100"].mean() == point["mrr"]
    best = max(point["mrr"] for point in tuned["surface"])
    first = next(point for point in tuned["surface"] if point["mrr"] == best)
    assert (tuned["b"], tuned["k1"], tuned["mrr@100"]) == (first["b"], first["k1"], best)
    assert len({point["mrr"] for point in tuned["surface"]}) > 3


def test_the_heatmap_shows_every_point_and_frames_the_best():
    surface = [{"b": b, "k1": k1, "mrr": b + k1 / 10} for b in (0.0, 0.5, 1.0) for k1 in (0.0, 1.0)]
    svg = ElementTree.fromstring(draw(surface, surface[5], "MRR@100"))
    rects = svg.findall("{*}rect")[1:]
    titles = [rect[0].text for rect in rects if len(rect)]
    assert titles == [f"b {p['b']:g}, k1 {p['k1']:g}: {p['mrr']:.4f}" for p in surface]
    places = [(int(rect.get("x")), int(rect.get("y"))) for rect in rects]
    assert places[1][0] > places[0][0]  # k1 increases to the right
    assert places[2][1] < places[0][1]  # and b upwards
    assert places[6] == places[5] == (max(x for x, _ in places), min(y for _, y in places))
    colours = [int(rect.get("fill")[1:], 16) for rect in rects[:6]]
    assert sorted(colours, reverse=True) == [colours[0], colours[1], colours[2], colours[3], colours[4], colours[5]]
    assert len(set(colours)) == 6
    assert "#f0f4f8" in draw([surface[0]], surface[0], "MRR@100")  # a single point has no range


def test_the_grid_includes_both_bounds_without_rounding_errors():
    values = axis("k1", Range(start=0, stop=3, step=0.1))
    assert (len(values), values[3], values[-1]) == (31, 0.3, 3.0)
    assert axis("b", Range(start=0.5, stop=0.5, step=0.1)) == [0.5]
    for start, stop, step in ((0, 1, 0.3), (1, 0, 0.1)):
        with pytest.raises(InputError, match=r"tuning, b: step .* does not divide"):
            axis("b", Range(start=start, stop=stop, step=step))


def test_qrels_of_other_questions_are_rejected(folder, tmp_path):
    write_qrels(tmp_path / "other.trec", {"nobody": {1}})
    with pytest.raises(InputError, match=r"other\.trec: question nobody is not a validation question"):
        tune(
            folder / "index",
            folder / "questions",
            tmp_path / "other.trec",
            **GRID,
            out=tmp_path / "tuning.json",
            heatmap=tmp_path / "map.svg",
        )
    assert not (tmp_path / "tuning.json").exists()
