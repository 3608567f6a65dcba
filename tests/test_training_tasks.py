"""The kinds of tasks on the toy dataset: both sides of each example."""

import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy import THINGS, WORDS, Toy

from vlret.encoders.checkpoints import read_checkpoint
from vlret.encoders.inputs import Side
from vlret.encoders.vocabulary import tokenizer_of
from vlret.files import InputError, remove
from vlret.runs import read_qrels
from vlret.settings import ExperimentSettings, Task
from vlret.training.corpus import Tables
from vlret.training.tasks import Source, judged_examples, match_article, sources_of, tasks_of
from vlret.training.train import train

KINDS = ("viquae", "triviaqa", "match_image", "match_article")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


def source(toy, **training):
    settings = ExperimentSettings(**toy.settings("full", **training))
    corpus = {**toy.corpus}
    tokenizer = tokenizer_of(settings, corpus.pop("weights"))
    return Source(settings, Tables(**corpus), tokenizer, toy.qrels, toy.negatives)


@pytest.fixture(scope="module")
def tasks(toy):
    return {task.name: task for task in tasks_of({None: source(toy, tasks={kind: {"kind": kind} for kind in KINDS})})}


def images_of(side, units, store):
    """The image file names of some units, None without an image."""
    names = json.loads((store / "store.json").read_text())["images"]
    by_row = {row: name for name, row in names.items()}
    return [by_row.get(int(side.images[unit])) for unit in units]


def entities_of(task):
    return sorted({example.entity for example in task.examples})


def test_viquae_has_image_questions_and_hard_negatives(toy, tasks):
    task = tasks["viquae"]
    assert len(task.examples) == 3 * THINGS - 1, "one has no relevant passage"
    for example in task.examples:
        thing = int(example.entity.removeprefix("thing"))
        assert task.questions.texts[example.unit] == f"{WORDS[example.unit % 3]} of this"
        assert images_of(task.questions, [example.unit], toy.folder / "fq") == [f"q{thing}.jpg"]
        assert images_of(task.passages, example.relevant, toy.folder / "fa") == [f"a{thing}.png"]
        assert len(example.negatives["random"]) == 20


def test_triviaqa_names_the_entity_without_images(tasks):
    task = tasks["triviaqa"]
    assert len(task.examples) == 3 * (THINGS - 1) - 1, "questions about the first thing name no entity"
    for example in task.examples:
        assert task.questions.texts[example.unit] == f"{WORDS[example.unit % 3]} of {example.entity}"
        assert task.passages.texts[example.relevant[0]].startswith(f"{example.entity} . ")
        assert example.negatives["random"]
    assert task.questions.inputs([5]).keys() == task.passages.inputs([0]).keys() == {"input_ids", "attention_mask"}


def test_match_image_pairs_two_images_of_one_entity(toy, tasks):
    task = tasks["match_image"]
    assert entities_of(task) == sorted(f"thing{n}" for n in range(THINGS))
    assert len(task.examples) == THINGS, "three questions that share an image are one example"
    for example in task.examples:
        number = example.entity.removeprefix("thing")
        assert images_of(task.questions, [example.unit], toy.folder / "fq") == [f"q{number}.jpg"]
        assert images_of(task.passages, example.relevant, toy.folder / "fa") == [f"a{number}.png"]
    assert task.questions.inputs([0]).keys() == task.passages.inputs([0]).keys() == {"features", "boxes", "visual_mask"}


def test_match_article_pairs_two_passages_of_one_article_with_two_images(toy, tasks):
    task = tasks["match_article"]
    passages = load_from_disk(str(toy.folder / "passages"))
    assert entities_of(task) == sorted(f"thing{n}" for n in range(THINGS))
    assert len(task.examples) == 3 * THINGS
    anchors = set()
    for example in task.examples:
        number = int(example.entity.removeprefix("thing"))
        own = [f"thing{number} . {text}".strip() for text in passages[3 * number : 3 * number + 3]["text"]]
        targets = [task.passages.texts[row] for row in example.relevant]
        assert sorted([task.questions.texts[example.unit], *targets]) == sorted(own)
        assert images_of(task.questions, [example.unit], toy.folder / "fq") == [f"q{number}.jpg"]
        assert set(images_of(task.passages, example.relevant, toy.folder / "fa")) == {f"a{number}.png"}
        anchors.add(task.questions.texts[example.unit])
    assert len(anchors) == 3 * THINGS


def test_pairs_of_long_articles_take_little_memory(toy, tmp_path):
    """Not quadratic in the passages of an article: the full knowledge base has 100 for each of 36,361 entities."""
    entities, each = 2000, 100
    rows = np.arange(entities)
    columns = {"wikidata_id": [f"Q{row}" for row in rows], "article": rows, "image": [f"{row}.jpg" for row in rows]}
    DatasetDict(train=Dataset.from_dict(columns)).save_to_disk(tmp_path / "questions")
    count = entities * each
    texts = {"article": np.repeat(rows, each), "title": ["a"] * count, "text": ["b"] * count}
    Dataset.from_dict(texts).save_to_disk(tmp_path / "passages")
    side = Side(None, rows, None, None, 8)
    tables = Tables(questions=tmp_path / "questions", passages=tmp_path / "passages")
    long = SimpleNamespace(tables=tables, settings=source(toy).settings, questions=side, passages=side)
    tracemalloc.start()
    examples = match_article(long, {})[2]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(examples) == count
    assert held / count < 300, "bytes an example"
    assert list(examples[count - 1].relevant) == list(range(count - each, count - 1))
    assert list(examples[count - 2].relevant) == [*range(count - each, count - 2), count - 1]


def test_only_entities_of_training_questions_are_used(toy, tmp_path):
    """Only training questions about the first things are left; other splits keep all things."""
    made = source(toy, tasks={kind: {"kind": kind} for kind in ("match_image", "match_article")})
    questions = load_from_disk(str(toy.questions))
    questions["train"] = questions["train"].select(range(12))
    questions.save_to_disk(tmp_path / "questions")
    tables = Tables(**{**vars(made.tables), "questions": tmp_path / "questions"})
    few = Source(made.settings, tables, made.tokenizer, made.qrels, made.negatives)
    for task in tasks_of({None: few}):
        assert entities_of(task) == [f"thing{n}" for n in range(4)]


def test_task_settings_override_the_trainings(toy):
    loss = {"name": "cosine", "temperature": 0.5, "learned": False}
    entries = {"main": {"kind": "viquae"}, "named": {"kind": "triviaqa", "batch_size": 4, "loss": loss, "weight": 0.5}}
    main, named = tasks_of({None: source(toy, tasks=entries)})
    training = ExperimentSettings(**toy.settings("full")).training
    shared = {key: getattr(training, key) for key in ("batch_size", "negatives_per_question", "negatives", "loss")}
    assert main.settings == Task(kind="viquae", **shared, weight=1.0)
    own = {"batch_size": 4, "loss": loss, "weight": 0.5}
    assert named.settings == Task(kind="triviaqa", **{**shared, **own})


def test_questions_without_entity_names_are_an_error(toy, tmp_path):
    questions = load_from_disk(str(toy.questions)).remove_columns("original_question")
    questions.save_to_disk(tmp_path / "questions")
    made = source(toy, tasks={"triviaqa": {"kind": "triviaqa"}})
    tables = Tables(**{**vars(made.tables), "questions": tmp_path / "questions"})
    with pytest.raises(InputError, match="no column 'original_question'"):
        tasks_of({None: Source(made.settings, tables, made.tokenizer, made.qrels, made.negatives)})


def test_tasks_read_their_datasets(toy, tmp_path):
    """One task needs neither articles nor images; two read another dataset's images but no judgements."""
    entries = {"named": {"kind": "triviaqa", "dataset": "trivia", "batch_size": 4}}
    entries |= {kind: {"kind": kind, "dataset": "pictures"} for kind in ("match_image", "match_article")}
    made = source(toy, tasks=entries)
    pictures = {f"pictures.{name}": path for name, path in vars(made.tables).items()}
    trivia = {"questions": toy.questions, "passages": toy.folder / "passages"}
    trivia |= {"qrels": toy.qrels, "negatives.random": toy.negatives["random"]}
    files = {**pictures, **{f"trivia.{name}": path for name, path in trivia.items()}}
    nothing = Source(made.settings, Tables(), made.tokenizer, None, {})
    named, image, article = tasks_of(sources_of(nothing, files))
    assert named.questions.images is None is named.passages.images
    assert (len(named.examples), named.settings.batch_size) == (3 * (THINGS - 1) - 1, 4)
    assert (len(image.examples), len(article.examples)) == (THINGS, 3 * THINGS)
    del files["trivia.qrels"]
    with pytest.raises(InputError, match=r"training\.tasks: missing qrels of trivia in --datasets"):
        sources_of(nothing, files)


def other(toy):
    """The toy dataset under another name."""
    parts = {**toy.corpus, "qrels": toy.qrels, "negatives.random": toy.negatives["random"]}
    return {f"other.{name}": path for name, path in parts.items() if name != "weights"}


ELSEWHERE = {kind: {"kind": kind, "dataset": "other", "batch_size": 4} for kind in ("triviaqa", "match_image")}


def test_training_on_other_datasets_needs_nothing_of_the_evaluated_one(toy, tmp_path):
    settings = toy.settings("full", tasks=ELSEWHERE, steps=4)
    alone = {"weights": toy.corpus["weights"], "threads": 1, "qrels": None, "negatives": {}}
    train(settings=settings, **alone, datasets=other(toy), out=tmp_path / "alone")
    train(settings=settings, **toy.training, datasets=other(toy), out=tmp_path / "given")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "given" / name).read_bytes()
    assert read_checkpoint(tmp_path / "alone")[1].feature_dim == 6
    nothing_seen = {name: path for name, path in other(toy).items() if "features" not in name}
    with pytest.raises(InputError, match="toy_full: needs a feature store"):
        train(settings=settings, **alone, datasets=nothing_seen, out=tmp_path / "none")
    texts = toy.settings("full", kind="text", tasks={"triviaqa": ELSEWHERE["triviaqa"]}, steps=4)
    train(settings=texts, **alone, datasets=nothing_seen, out=tmp_path / "texts")
    assert read_checkpoint(tmp_path / "texts")[1].feature_dim is None


def test_missing_files_of_the_evaluated_dataset_are_named(toy, tmp_path):
    given = {"weights": toy.corpus["weights"], "threads": 1, "question_features": toy.corpus["question_features"]}
    missing = "questions, passages, articles, article_features, qrels, negatives.random of the evaluated dataset"
    with pytest.raises(InputError, match=rf"training\.tasks: missing {missing}$"):
        train(settings=toy.settings("full"), **given, qrels=None, negatives={}, out=tmp_path / "none")


def test_an_untrained_model_needs_only_the_feature_width(toy, tmp_path):
    given = {"weights": toy.corpus["weights"], "threads": 1, "question_features": toy.corpus["question_features"]}
    train(settings=toy.settings("zs"), **given, qrels=None, negatives={}, out=tmp_path / "alone")
    train(settings=toy.settings("zs"), **toy.training, out=tmp_path / "given")
    alone, whole = (tmp_path / name / "model.safetensors" for name in ("alone", "given"))
    assert alone.read_bytes() == whole.read_bytes()


def curves(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_training_on_all_tasks_learns_and_reports_each(toy, monkeypatch):
    monkeypatch.setattr("vlret.training.train.remove", lambda path: kept.append(path))
    kept, out = [], toy.folder / "checkpoints" / "multitask"
    own = {"tasks": {kind: {"kind": kind} for kind in KINDS}, "steps": 120, "learning_rate": 2e-3, "validate_every": 40}
    train(settings=toy.settings("full", **own), **toy.training, **toy.validation, out=out)
    assert toy.mean_rank(*toy.embedded("full", out)) < 0.6 * toy.mean_rank(*toy.embedded("zs"))
    shown = curves(kept[0] / "tensorboard")
    assert {"learning_rate", "gradient_norm", "questions_per_second"} < shown.keys()
    assert shown["validation/mrr"].keys() == {40, 80, 120}
    for kind in KINDS:
        losses = list(shown[f"loss/{kind}"].values())
        assert np.mean(losses[-3:]) < np.mean(losses[:3])
        assert max(shown[f"steps/{kind}"].values()) == 30
    remove(kept[0])


def test_search_positives_are_preferred_and_judged_ones_the_fallback(toy, tmp_path):
    judged = read_qrels(toy.qrels)
    first, second, *_, last = judged
    columns = {"question": list(judged), "passages": [[7, 8]] * len(judged)}
    found = {question: [] for question in judged} | {first: [50, *judged[first]], second: [51], last: [52]}
    mined = tmp_path / "bm25.parquet"
    lists = pa.list_(pa.int32())
    pq.write_table(pa.table({**columns, "relevant": pa.array([found[question] for question in judged], lists)}), mined)
    examples = judged_examples(toy.questions, toy.qrels, {"bm25": mined}, {"bm25": 1.0}, "bm25")
    by_unit = {example.unit: example for example in examples}
    assert by_unit[0].relevant == (50, *judged[first])
    assert (by_unit[1].relevant, by_unit[1].others) == ((51,), tuple(judged[second])), "not drawn, and no negative"
    assert by_unit[2].relevant == tuple(sorted(judged[list(judged)[2]]))
    assert by_unit[len(judged) - 1].relevant == (52,), "only the search finds one"
    with pytest.raises(InputError, match="missing mined passages of bm25"):
        judged_examples(toy.questions, toy.qrels, toy.negatives, {"random": 1.0}, "bm25")
