"""Train one experiment's bi-encoder."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from vlret.digests import digests
from vlret.encoders.checkpoints import read_settings
from vlret.encoders.precision import chosen
from vlret.encoders.vocabulary import tokenizer_of
from vlret.features.store import FeatureStore
from vlret.files import InputError, remove, unfinished
from vlret.locks import Lock, TakenOver, locked
from vlret.made import version_of
from vlret.settings import IMAGES, Checkpoint, ExperimentSettings, Sizes
from vlret.sizes import check_sizes
from vlret.training import distributed
from vlret.training.batches import Task
from vlret.training.corpus import Tables
from vlret.training.fit import fit
from vlret.training.launch import launch
from vlret.training.pool import PoolValidation
from vlret.training.state import Saving
from vlret.training.tasks import Source, sources_of, tasks_of
from vlret.training.validate import Validation
from vlret.tuning.methods import build
from vlret.tuning.pretrained import save_pretrained
from vlret.typed import typed


@typed
def train(
    settings: ExperimentSettings,
    weights: Mapping[str, Path],
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
    save_minutes: float = 15.0,
    gpus: int | None = None,
    nodes: int | None = None,
    sizes: Sizes | None = None,
    threads: int = 2,
) -> None:
    """Train an experiment and write its checkpoint; a zero-shot one is written untrained.

    An interrupted run is resumed by the same command, from a folder beside `out` that is removed when the checkpoint
    is complete. Several processes share each batch, and the first one writes. If another process, on any machine, is
    already running the same training, this one waits and uses its result.

    Parameters
    ----------
    settings
        The experiment's settings.
    weights
        The published weights, as for `vlret.encoders.assemble.assemble`.
    threads
        Threads of each process.
    qrels, negatives
        For the training questions: judgements, and miner -> mined irrelevant passages; None if no task reads them.
    out
        The checkpoint folder.
    questions, passages, articles, question_features, article_features
        The evaluated dataset's tables and feature stores that its tasks read; a text model reads no stores. An
        untrained joint model needs the question features for their width.
    validation_qrels, validation_negatives
        Judgements and mined passages of the validation questions, for `validate_every`.
    datasets
        Files of the other datasets that tasks name, as for `vlret.training.tasks.sources_of`.
    save_steps, save_minutes
        Steps between saved states, and the most minutes.
    gpus, nodes
        Processes per node and nodes of the Slurm job, 1 by default. Each runs this process's own command line, so more
        than 1 only works from the command line.
    sizes
        Sizes that the config states for the text weights, which must match them.

    Raises
    ------
    InputError
        If the text weights have other sizes than stated, a file that a task or validation reads is not given, entities
        do not fill a batch, or another process took over the lock from this stalled one without finishing.
    SystemExit
        With 128 + its number after a SIGTERM or SIGUSR1, with the state saved; with the exit code of the first failed
        process if there are several.
    """
    if launch(gpus or 1, nodes or 1, threads):
        return
    _make_deterministic(threads)
    if sizes:
        folders = [weights[name] for name in ("text", "passage") if name in weights]
        check_sizes(settings.name.partition("_")[0], settings.model.text.architecture, sizes, folders)
    tables = Tables(questions, passages, articles, question_features, article_features)
    source = Source(settings, tables, tokenizer_of(settings, weights), qrels, negatives)
    known = {"feature_dim": _feature_dim(source, datasets or {}), "weights": digests(weights)}
    stored = Checkpoint(**{**dict(settings), **known})
    model = build(settings, weights, stored.feature_dim)
    if settings.training is None:
        save_pretrained(model, stored, out)
        return
    with distributed.processes(), _exclusive(out, stored := _settled(stored)) as (lock, finished):
        if finished:
            distributed.say(f"{out}: finished by another process with the same settings; using it")
            return
        tasks = tasks_of(sources_of(source, datasets or {}))
        held_out = replace(source, qrels=validation_qrels, negatives=validation_negatives or {})
        validation = validation_of(held_out, tasks) if settings.training.validate_every else None
        state = out.parent / f"{out.name}.training"
        if lock:
            made = {**settings.brief(), "version": version_of("training train")}
            unfinished(state, made, inputs_of(source, held_out, datasets or {}, stored.weights))
        saving = Saving(state, save_steps, save_minutes, lock and lock.check)
        training = settings.training.model_copy(update={"precision": stored.precision})
        fit(model, tasks, settings.model_copy(update={"training": training}), saving, validation, lock)
        if lock:
            save_pretrained(model, stored, out, lock.check)
            remove(state)


def _settled(stored: Checkpoint) -> Checkpoint:
    """Note the precision that `auto` chooses: bf16 only if all processes choose it."""
    precision = chosen(stored.training.precision, distributed.device(), "training.precision")
    if stored.training.precision == "auto" and distributed.largest(int(precision == "fp32")):
        precision = "fp32"
    distributed.say(f"{stored.name}: products in {precision}")
    return stored.model_copy(update={"precision": precision})


def inputs_of(
    source: Source, held_out: Source, datasets: Mapping[str, Path], weights: Mapping[str, str]
) -> dict[str, str]:
    """The digests of everything that a training reads, by which a stopped one knows whether it may go on.

    `weights` are already digests.
    """
    validation = {
        name: path for name, path in held_out.parts.items() if name.partition(".")[0] in ("qrels", "negatives")
    }
    files = {**source.parts, **{f"validation_{name}": path for name, path in validation.items()}, **datasets}
    return digests(files) | {f"weights.{name}": known for name, known in weights.items()}


def validation_of(source: Source, tasks: Sequence[Task]) -> Validation | PoolValidation:
    """Validation on the validation questions of the first task of kind `viquae`."""
    training = source.settings.training
    if source.qrels is None:
        raise InputError("training.validate_every: no judgements to validate with: give --validation-qrels")
    kinds = [None if task.dataset else task.kind for task in training.tasks.values()]
    if "viquae" not in kinds:
        raise InputError("training.validate_every: needs a task of kind viquae to validate")
    task = tasks[kinds.index("viquae")]
    task = replace(task, examples=source.examples(task.settings.negatives))
    if training.validation_pool:
        batch = training.chunk or task.settings.batch_size
        return PoolValidation(task, training.validation_pool, source.settings.seed, batch)
    return Validation(task, training.validation_batches, source.settings.seed, training.chunk)


def _feature_dim(source: Source, datasets: Mapping[str, Path]) -> int | None:
    """The width of a joint model's features: those of the evaluated questions, or of the first task's images."""
    settings = source.settings
    if settings.model.kind != "joint":
        return None
    tasks = settings.training.tasks.values() if settings.training else ()
    others = (datasets.get(f"{task.dataset}.{part}") for task in tasks for part in IMAGES)
    store = next(filter(None, (source.tables.question_features, *others)), None)
    if store is None:
        raise InputError(f"{settings.name}: needs a feature store to know the width of features")
    return FeatureStore.open(store).dim


def _make_deterministic(threads: int) -> None:
    torch.set_num_threads(threads)
    # Some GPU kernels have no deterministic version: results then differ slightly, with a warning.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Memory is written before it is read; to fill it first takes a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Equivalent to `use_deterministic_algorithms`, which takes 3 s to import the compiler.
    torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")


@contextmanager
def _exclusive(out: Path, stored: Checkpoint) -> Iterator[tuple[Lock | None, bool]]:
    """Lock out other runs of the training; yields the first process's lock, and whether another run finished `out`.

    A run whose lock was taken over succeeds if the other did: if it failed, Snakemake would remove the other's
    checkpoint.
    """
    lock = Lock(out.parent / f".{out.name}.lock") if distributed.rank() == 0 else None
    before = _version(out, stored)
    try:
        while not distributed.largest(int(lock.attempt()) if lock else 0):
            pass
        yield lock, bool(distributed.largest(int(lock is not None and _version(out, stored) not in (None, before))))
    except TakenOver as error:
        distributed.say(str(error))
        with locked(lock.path):
            if _version(out, stored) in (None, before):
                raise
        distributed.say(f"{out}: finished by the other process with the same settings")
    finally:
        if lock:
            lock.release()


def _version(out: Path, stored: Checkpoint) -> int | None:
    """An identifier of the current checkpoint with these settings; None if there is none."""
    if not (out / "config.json").is_file() or read_settings(out) != stored:
        return None
    return out.stat().st_ino
