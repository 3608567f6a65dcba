"""End-to-end training on a toy dataset: real tables and features, a random BERT in the published layout."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy import Toy

from vlret.data.tables import all_questions
from vlret.digests import digests
from vlret.encoders.checkpoints import read_checkpoint
from vlret.files import InputError, remove
from vlret.retrieval.embed import embed_questions, shuffled
from vlret.runs import read_qrels
from vlret.settings import Checkpoint, Sizes
from vlret.training import state
from vlret.training.learner import Learner
from vlret.training.tasks import judged_examples
from vlret.training.train import train


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


def weights_of(path):
    return load_file(path / "model.safetensors")


def equal(one, other):
    one, other = weights_of(one), weights_of(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(toy):
    out = toy.folder / "checkpoints" / "full"
    train(settings=toy.settings("full"), **toy.training, out=out)
    return out


def test_training_learns(toy, trained):
    before = toy.embedded("zs")
    after = toy.embedded("full", trained)
    assert toy.mean_rank(*after) < 0.5 * toy.mean_rank(*before)


def test_only_the_same_seed_gives_the_same_bytes(toy, trained):
    again, other = toy.folder / "checkpoints" / "again", toy.folder / "checkpoints" / "other"
    train(settings=toy.settings("full"), **toy.training, out=again)
    train(settings=toy.settings("full") | {"seed": 1}, **toy.training, out=other)
    assert (trained / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert not equal(trained, other)


def test_weights_of_other_sizes_than_the_model_states_are_refused(toy):
    for stated in ({"layers": 99}, {"positions": 99}, {"width": 99}):
        (field,) = stated
        with pytest.raises(InputError, match=rf"^models\.toy\.text\.sizes\.{field}: 99, but .*config\.json has \d+; "):
            train(settings=toy.settings("zs"), **toy.training, out=toy.folder / "odd", sizes=Sizes(**stated))


def test_zero_shot_checkpoints_omit_pretrained_weights(toy):
    out = toy.folder / "checkpoints" / "zs"
    train(settings=toy.settings("zs"), **toy.training, out=out)
    weights, settings = read_checkpoint(out)
    assert settings == Checkpoint(**toy.settings("zs"), feature_dim=6, weights=digests(toy.corpus["weights"]))
    assert all("visual_embedding" in name for name in weights)


def stopped(command, state, how):
    """Start a training, signal it once a state is saved, and return its exit code and output."""
    process = subprocess.Popen([sys.executable, "-m", "vlret", *command], stderr=subprocess.PIPE, text=True)
    while not list(state.glob("step-*.pt")):
        assert process.poll() is None, "it ended before it was stopped"
        time.sleep(0.005)
    process.send_signal(how)
    return process.communicate()[1], process.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_stopped_training_resumes_and_ends_with_the_same_bytes(toy, trained, how, code, capsys):
    out = toy.folder / "checkpoints" / f"stopped-{how.name}"
    state = out.parent / f"{out.name}.training"
    log, found = stopped(toy.command("full", out), state, how)
    assert found == code
    assert not out.exists()
    if code > 0:
        last = max(state.glob("step-*.pt")).stem.removeprefix("step-").lstrip("0")
        assert f"stopped by {how.name} after step {last}; run the same command to resume" in log
    train(settings=toy.settings("full"), **toy.training, out=out)
    assert "resuming from step" in capsys.readouterr().err
    assert equal(out, trained)
    assert not state.exists()


@pytest.mark.slow
def test_a_training_killed_at_any_moment_resumes_to_the_same_bytes(toy, trained):
    """Killed at random moments, also while a state is written beside it."""
    out, random = toy.folder / "checkpoints" / "killed", np.random.default_rng(3)
    state = out.parent / f"{out.name}.training"
    command = [sys.executable, "-m", "vlret", *toy.command("full", out, save_steps=1)]
    for _ in range(3):
        before = {*state.glob("step-*.pt")}
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while {*state.glob("step-*.pt")} <= before:
                assert process.poll() is None, "it ended before it was killed"
                time.sleep(0.005)
            time.sleep(random.random() / 4)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    train(settings=toy.settings("full"), **toy.training, out=out)
    assert equal(out, trained)


ALL = {
    "tasks": {kind: {"kind": kind} for kind in ("viquae", "triviaqa", "match_image", "match_article")},
    "mixing": "balanced",
    "chunk": 3,
    "accumulation": 2,
    "validate_every": 3,
    "patience": 4,
    "steps": 25,
}


def test_training_stopped_after_any_step_ends_with_the_same_bytes(toy, monkeypatch):
    """Tasks, chunks, validation and early stopping together, stopped repeatedly; the curves are continuous."""
    monkeypatch.setattr("vlret.training.train.remove", lambda state: None)
    whole, again = toy.folder / "checkpoints" / "all", toy.folder / "checkpoints" / "all-again"
    how = {"settings": toy.settings("full", **ALL), **toy.training, **toy.validation, "save_steps": 1}
    train(**how, out=whole)
    take, steps = Learner.step, []

    def interrupted(self, step, *rest):
        steps.append(step)
        if len(steps) % 3 == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, step, *rest)

    monkeypatch.setattr(Learner, "step", interrupted)
    while not again.exists():
        with suppress(SystemExit):
            train(**how, out=again)
    assert steps == list(range(len(steps))), "no step twice"
    assert len(steps) > 8
    assert equal(whole, again)
    assert curves(whole) == curves(again)


def curves(out):
    """A training's curves by step, except for the speed; file by file, whose names do not order those of one second."""
    found = {}
    for file in (out.with_name(f"{out.name}.training") / "tensorboard").iterdir():
        events = EventAccumulator(str(file)).Reload()
        for tag in set(events.Tags()["scalars"]) - {"questions_per_second"}:
            found.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    return {tag: sorted(points) for tag, points in found.items()}


def test_a_state_is_saved_after_so_many_minutes_too(toy, monkeypatch):
    out, now = toy.folder / "checkpoints" / "minutes", iter(range(10**6))
    monkeypatch.setattr("vlret.training.state.time", SimpleNamespace(monotonic=lambda: 60.0 * next(now)))
    saved, save = [], state.save
    monkeypatch.setattr(state, "save", lambda folder, step, *rest: saved.append(step) or save(folder, step, *rest))
    how = {**toy.training, "save_steps": 50, "save_minutes": 10}
    train(settings=toy.settings("full"), **how, out=out)
    assert 50 in saved
    assert len(saved) > 3
    assert all(later - step <= 10 for step, later in pairwise(saved))


def test_an_error_of_saving_ends_the_training(toy, monkeypatch):
    def full(*rest):
        raise OSError("no space left")

    monkeypatch.setattr(state, "save", full)
    with pytest.raises(OSError, match="no space left"):
        train(settings=toy.settings("full", steps=8), **toy.training, out=toy.folder / "checkpoints" / "unsaved")


def test_training_goes_on_while_a_state_is_saved(tmp_path, monkeypatch):
    """A step changes weights and optimizer in place, but not the state that is being written."""
    chosen = tiny.settings()
    model, pieces = tiny.learner(chosen), tiny.stream(chosen)[1]
    gate, save = Event(), state.save
    monkeypatch.setattr(state, "save", lambda *given: gate.wait() and save(*given))
    model.step(0, 0, pieces)
    before = copy.deepcopy(model.state())
    with state.Saving(tmp_path, 1, 1e9) as saving:
        saving.start(1, model.state())
        model.step(1, 0, pieces)
        assert not list(tmp_path.iterdir())
        gate.set()
    stored, after = moments(state.last(tmp_path)), moments(model.state())
    assert all(torch.equal(value, expected) for value, expected in zip(stored, moments(before), strict=True))
    assert not any(torch.equal(value, changed) for value, changed in zip(stored, after, strict=True))


def moments(stored):
    """The weights of a state that a step changes, and the optimizer's averages."""
    averages = [each["exp_avg"] for each in stored["optimizer"]["state"].values()]
    return [*averages, *(value for name, value in stored["weights"].items() if "side" in name)]


def test_a_broken_state_is_skipped(toy, trained, capsys):
    out = toy.folder / "checkpoints" / "broken"
    folder = out.parent / f"{out.name}.training"
    with pytest.raises(SystemExit), interrupted_at(12):
        train(settings=toy.settings("full"), **toy.training, out=out)
    shown = json.loads((folder / "progress.json").read_text())
    assert shown["epoch"] == shown["step"] / 5, "35 questions in batches of 8"
    newest = folder / "step-00000013.pt"
    assert [path.name for path in sorted(folder.glob("step-*"))] == ["step-00000007.pt", newest.name]
    newest.write_bytes(newest.read_bytes()[:-1000])
    train(settings=toy.settings("full"), **toy.training, out=out)
    log = capsys.readouterr().err
    assert f"{newest}: damaged state" in log
    assert "resuming from step 7" in log
    assert equal(out, trained)


@contextmanager
def interrupted_at(step):
    take = Learner.step

    def interrupted(self, number, *rest):
        if number == step:
            os.kill(os.getpid(), signal.SIGUSR1)
        return take(self, number, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", interrupted)
        yield


def test_training_resumes_only_on_the_same_data(toy, trained, tmp_path, capsys):
    """A copy of everything is the same data; other judgements, questions or weights are not."""
    out = toy.folder / "checkpoints" / "moved"
    state = out.parent / f"{out.name}.training"
    with pytest.raises(SystemExit), interrupted_at(12):
        train(settings=toy.settings("full"), **toy.training, out=out)
    aside = shutil.copytree(state, tmp_path / "state")
    copied = {name: copy_of(path, tmp_path / "copy" / name) for name, path in toy.training.items()}
    train(settings=toy.settings("full"), **copied, out=out)
    assert "resuming from step" in capsys.readouterr().err
    assert equal(out, trained)
    for name, inside in (("qrels", ""), ("questions", "train/state.json"), ("weights", "vocab.txt")):
        shutil.copytree(aside, state)
        changed = {key: copy_of(path, tmp_path / name / key) for key, path in toy.training.items()}
        file = changed[name]["text"] if name == "weights" else changed[name]
        file = file / inside if inside else file
        file.write_text(file.read_text() + "\n")
        with pytest.raises(SystemExit), interrupted_at(0):
            train(settings=toy.settings("full"), **changed, out=out)
        log = capsys.readouterr().err
        named = "weights.text" if name == "weights" else name
        assert f"{state}: removed, since it was stopped on other data ({named}); starting anew" in log
        remove(state)


def copy_of(value, to):
    """A copy of a path, or of those in a mapping; other values as they are."""
    if isinstance(value, dict):
        return {name: copy_of(path, to / name) for name, path in value.items()}
    if not isinstance(value, Path):
        return value
    to.parent.mkdir(parents=True, exist_ok=True)
    return shutil.copytree(value, to) if value.is_dir() else shutil.copy(value, to)


def test_training_does_not_resume_from_other_settings(toy, trained, capsys):
    out = toy.folder / "checkpoints" / "changed"
    state = out.parent / f"{out.name}.training"
    state.mkdir()
    (state / "settings.json").write_text(json.dumps({**toy.settings("full"), "seed": 9}))
    (state / "step-00000030.pt").write_text("of other settings")
    train(settings=toy.settings("full"), **toy.training, out=out)
    assert f"{state}: removed, since it was made with other settings" in capsys.readouterr().err
    assert equal(out, trained)


def test_questions_without_a_relevant_passage_are_left_out_and_counted(toy, capsys):
    examples = judged_examples(toy.questions, toy.qrels, toy.negatives, {"random": 1.0}, "judged")
    relevant = read_qrels(toy.qrels)
    assert 0 < len(examples) == sum(map(bool, relevant.values())) < len(relevant)
    assert f"{len(examples)} of {len(relevant)} questions have a relevant passage" in capsys.readouterr().err


def test_a_missing_miner_is_named(toy):
    with pytest.raises(InputError, match=r"training.negatives: missing mined passages of bm25"):
        judged_examples(toy.questions, toy.qrels, toy.negatives, {"bm25": 1.0}, "judged")


def test_a_checkpoint_of_another_method_is_rejected(toy, trained):
    changed = toy.folder / "checkpoints" / "mixed"
    train(settings=toy.settings("zs"), **toy.training, out=changed)
    (changed / "config.json").write_text((trained / "config.json").read_text())
    with pytest.raises(InputError, match="does not fit the experiment's settings"):
        toy.embed(changed, toy.folder / "nothing")


def test_vectors_are_in_the_order_of_the_tables(toy, trained):
    questions, passages = toy.embedded("full", trained)
    one_by_one = toy.embedded("full", trained, batch_size=1)
    np.testing.assert_allclose(questions, one_by_one[0], atol=2e-6)
    np.testing.assert_allclose(passages, one_by_one[1], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(passages, axis=1), 1, atol=1e-6)
    assert len(questions) == len(all_questions(toy.questions))


def test_an_image_model_embeds_articles_as_nan_without_an_image(toy):
    _, articles = toy.embedded("zs", kind="image")
    assert len(articles) == toy.articles_count
    assert np.isnan(articles).all(axis=1).tolist() == [name is None for name in toy.article_images]


def test_an_experiment_that_starts_from_another_is_embedded_with_it(toy, trained):
    """LoRA's first step, at a rate of 0, changes no vector; its checkpoint lacks what the first one learned."""
    out, start = toy.folder / "checkpoints" / "started", {**toy.corpus["weights"], "start": trained}
    train(settings=toy.settings("lora", steps=1), **{**toy.training, "weights": start}, out=out)
    embeddings = toy.folder / "embeddings" / "started"
    toy.embed(out, embeddings, weights=start)
    expected = toy.embedded("full", trained)[0]
    np.testing.assert_allclose(np.load(embeddings / "questions.npy"), expected, atol=2e-6)
    with pytest.raises(
        InputError, match="started: was trained from another checkpoint; give it too, as weights 'start'"
    ):
        toy.embed(out, embeddings)


def test_ablations_remove_one_modality(toy, trained):
    whole_vectors = toy.embedded("full", trained)[0]
    vectors = {}
    for kind in ("no-text", "no-image"):
        out = toy.folder / f"{kind}.npy"
        asked = {name: toy.corpus[name] for name in ("weights", "questions", "question_features")}
        embed_questions(checkpoint=trained, **asked, batch_size=4, threads=1, ablation=kind, out=out)
        vectors[kind] = np.load(out)
        assert vectors[kind].shape == whole_vectors.shape
        assert not np.allclose(vectors[kind], whole_vectors, atol=1e-3)
    same_image = toy.questions_by_image()
    for first, second in same_image:
        np.testing.assert_allclose(vectors["no-text"][first], vectors["no-text"][second], atol=2e-6)


@pytest.mark.parametrize("repeated", [1, 2, 7, 50])
def test_no_question_keeps_an_image_that_others_have_too(repeated):
    images = np.concatenate([np.full(repeated, 3), np.arange(100, 150), np.arange(100, 110)])
    moved = shuffled(images, seed=3)
    assert (np.sort(moved) == np.sort(images)).all()
    assert (moved != images).all()


def test_shuffled_images_are_a_seeded_derangement():
    images = np.arange(50)
    moved = shuffled(images, seed=3)
    assert sorted(moved) == images.tolist()
    assert (moved != images).all()
    assert (moved == shuffled(images, seed=3)).all()
    assert (moved != shuffled(images, seed=4)).any()


@pytest.mark.parametrize(("rate", "learned"), [(1e-12, False), (3e-3, True)])
def test_a_training_that_learns_nothing_says_so(toy, rate, learned, capsys):
    negatives, loss = {"negatives": {"random": 1.0}}, {"name": "cosine", "temperature": 1.0, "learned": False}
    how = {
        "learning_rate": rate,
        "steps": 40,
        "warmup_steps": 0,
        "loss": loss if not learned else {**loss, "temperature": 0.1},
    }
    train(
        settings=toy.settings("full", **negatives, **how),
        **toy.training,
        out=toy.folder / "checkpoints" / f"rate-{rate}",
    )
    log = capsys.readouterr().err
    assert ("task viquae learned nothing: its loss ended at 3.1" in log) != learned
    assert ("guessing among 24 passages gives 3.178" in log) != learned
