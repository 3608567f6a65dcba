"""Check that datasets have enough entities for training batches, whose questions all have distinct entities.

The job that reads the questions gets the size of the largest batch and rejects too few entities, long before training.
A later config may need larger batches from existing questions, so `vlret.layout` also compares them with the report
beside the questions before any job runs. Entities without relevant passages are only known after judging; if too few
are left, training raises the error.
"""

from typing import NamedTuple

from vlret.experiment import trained, training_of
from vlret.files import InputError
from vlret.settings import Config


class LargestBatch(NamedTuple):
    """The largest batch drawn from a dataset's training questions.

    Attributes
    ----------
    questions
        Number of questions.
    field
        The config field that sets it.
    of
        The experiment that is trained with it.
    """

    questions: int
    field: str
    of: str


def largest_batches(config: Config) -> dict[str, LargestBatch]:
    """The largest batch of each dataset that an experiment is trained on."""
    found: dict[str, LargestBatch] = {}
    for experiment in trained(config):
        run = training_of(config, experiment)
        for name, task in run.tasks.items() if run else ():
            dataset, questions = task.dataset or config.dataset, run.of_task(name).batch_size
            if dataset not in found or questions > found[dataset].questions:
                field = "training.batch_size" if task.batch_size is None else f"training.tasks.{name}.batch_size"
                found[dataset] = LargestBatch(questions, field, experiment.name)
    return found


def check_batch(batch: LargestBatch, entities: int) -> None:
    """Raise an `InputError` if a dataset's training questions have too few entities for a batch."""
    if batch.questions > entities:
        raise InputError(
            f"{batch.field}: {batch.questions} questions of distinct entities per batch, but the training questions "
            f"have {entities} (of {batch.of}); set it to {entities} or less"
        )
