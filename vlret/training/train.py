"""Train one experiment's bi-encoder."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from vlret.encoders.checkpoints import read_settings
from vlret.encoders.vocabulary import tokenizer_of
from vlret.features.store import FeatureStore
from vlret.files import InputError, remove
from vlret.locks import Lock, TakenOver, locked
from vlret.settings import IMAGES, Checkpoint, ExperimentSettings, Sizes
from vlret.sizes import check_sizes
from vlret.training import distributed
from vlret.training.batches import Task
from vlret.training.corpus import Tables
from vlret.training.fit import fit
from vlret.training.launch import launched
from vlret.training.tasks import Source, sources_of, tasks_of
from vlret.training.validate import Validation
from vlret.tuning.methods import build
from vlret.tuning.pretrained import save_pretrained


def train(
    settings: ExperimentSettings,
    weights: Mapping[str, Path],
    threads: int,
    qrels: Path | None,
    negatives: Mapping[str, Path],
    out: Path,
    questions: Path | None = None,
    passages: Path | None = None,
    articles: Path | None = None,
    question_features: Path | None = None,
    article_features: Path | None = None,
    validation_qrels: Path | None = None,
    validation_negatives: Mapping[str, Path] | None = None,
    datasets: Mapping[str, Path] | None = None,
    save_steps: int = 100,
    gpus: int | None = None,
    nodes: int | None = None,
    sizes: Sizes | None = None,
) -> None:
    """Train an experiment and write its checkpoint; a zero-shot one is written as it is built.

    The state of training stands beside `out` and is removed when the checkpoint is whole. The same command goes on
    from it after a kill. Several processes share each batch, and the first one writes. While another copy of the
    training is at work, on whichever machine, it is waited for, and what that one made is taken.

    Parameters
    ----------
    settings
        All that decides what is trained, and how.
    weights
        The published weights, as `vlret.encoders.assemble.assemble` takes them.
    threads
        Of each process.
    qrels, negatives
        Of the training questions: judgements; miner -> the irrelevant passages it found. None where no task reads them.
    out
        The folder of the checkpoint.
    questions, passages, articles, question_features, article_features
        The evaluated dataset's tables and feature stores, as many as its tasks read; no stores for a text model. A
        joint model that is not trained needs those of the questions, whose width it is made for.
    validation_qrels, validation_negatives
        The same of the validation questions, which `validate_every` needs.
    datasets
        Files of the other datasets that tasks name, as `vlret.training.tasks.sources_of` takes them.
    save_steps
        Steps between two states that a stopped training goes on from.
    gpus, nodes
        Processes of each node, and nodes of the Slurm job, 1 where it is not given: this process's own command line is
        run in each, so that several are for the command alone.
    sizes
        What the config states of the text weights, which must have them.

    Raises
    ------
    InputError
        If the text weights are of other sizes than stated, what a task reads was not given, entities do not fill a
        batch, what validation needs is not there, or another copy took over since this one stood still, and made
        nothing.
    SystemExit
        With 128 + its number after a SIGTERM or SIGUSR1, the state saved; of several processes, with the exit code of
        the first that failed.
    """
    if launched(gpus or 1, nodes or 1, threads):
        return
    _repeatable(threads)
    if sizes:
        folders = [weights[name] for name in ("text", "passage") if name in weights]
        check_sizes(settings.name.partition("_")[0], settings.model.text.architecture, sizes, folders)
    tables = Tables(questions, passages, articles, question_features, article_features)
    source = Source(settings, tables, tokenizer_of(settings, weights), qrels, negatives)
    stored = Checkpoint(**{**dict(settings), "feature_dim": _feature_dim(source, datasets or {})})
    model = build(settings, weights, stored.feature_dim)
    if settings.training is None:
        save_pretrained(model, stored, out)
        return
    with distributed.processes(), _alone(out, stored) as (lock, made):
        if made:
            distributed.say(f"{out}: made by another process meanwhile, with the same settings; it is taken as it is")
            return
        tasks = tasks_of(sources_of(source, datasets or {}))
        checked = replace(source, qrels=validation_qrels, negatives=validation_negatives or {})
        validation = validation_of(checked, tasks) if settings.training.validate_every else None
        state = out.parent / f"{out.name}.training"
        fit(model, tasks, settings, state, save_steps, validation, lock)
        if lock:
            save_pretrained(model, stored, out, lock.check)
            remove(state)


def validation_of(source: Source, tasks: Sequence[Task]) -> Validation:
    """What the training is validated on: the validation questions of its first task of kind `viquae`."""
    training = source.settings.training
    if source.qrels is None:
        raise InputError("training.validate_every: the judgements of the validation questions were not given")
    kinds = [None if task.dataset else task.kind for task in training.tasks.values()]
    if "viquae" not in kinds:
        raise InputError("training.validate_every: no task of kind viquae, whose questions could be validated on")
    task = tasks[kinds.index("viquae")]
    task = replace(task, examples=source.examples(task.settings.negatives))
    return Validation(task, training.validation_batches, source.settings.seed, training.chunk)


def _feature_dim(source: Source, datasets: Mapping[str, Path]) -> int | None:
    """The width of the features that a joint model sees: of the evaluated questions, or of the first task's images."""
    settings = source.settings
    if settings.model.kind != "joint":
        return None
    tasks = settings.training.tasks.values() if settings.training else ()
    others = (datasets.get(f"{task.dataset}.{part}") for task in tasks for part in IMAGES)
    store = next(filter(None, (source.tables.question_features, *others)), None)
    if store is None:
        raise InputError(f"{settings.name}: no feature store was given, and so it is not known how wide features are")
    return FeatureStore.open(store).dim


def _repeatable(threads: int) -> None:
    torch.set_num_threads(threads)
    # On a GPU some kernels have no deterministic form: there the same seed gives nearly the same, with a warning.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not `use_deterministic_algorithms`, which is the same and takes 3 s to import the compiler.
    torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")


@contextmanager
def _alone(out: Path, stored: Checkpoint) -> Iterator[tuple[Lock | None, bool]]:
    """Keep other copies of the training out: the first process's lock for all, and whether one made `out` meanwhile.

    A copy that was overtaken ends well if the other did: Snakemake removes the outputs of a command that fails, and by
    then the checkpoint is the other's.
    """
    lock = Lock(out.parent / f".{out.name}.lock") if distributed.rank() == 0 else None
    before = _made(out, stored)
    try:
        while not distributed.largest(int(lock.attempt()) if lock else 0):
            pass
        yield lock, bool(distributed.largest(int(lock is not None and _made(out, stored) not in (None, before))))
    except TakenOver as error:
        distributed.say(str(error))
        with locked(lock.path):
            if _made(out, stored) in (None, before):
                raise
        distributed.say(f"{out}: made by the other process, with the same settings")
    finally:
        if lock:
            lock.release()


def _made(out: Path, stored: Checkpoint) -> int | None:
    """What tells one making of a checkpoint with these settings from another; None if there is none."""
    if not (out / "config.json").is_file() or read_settings(out) != stored:
        return None
    return out.stat().st_ino
