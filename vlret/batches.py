"""How many entities the trainings of a config need: the questions of a batch are all about different ones.

A dataset has them or not once its questions are read, long before anything is trained. So the job that reads them is
told of the largest batch and refuses too few; and since a later config may ask for a larger one of what is made
already, `vlret.layout` compares it with the report beside the questions before any job runs. Which of the entities have
a relevant passage shows only with the judgements: there may be fewer, which the training then says itself.
"""

from typing import NamedTuple

from vlret.experiment import trained, training_of
from vlret.files import InputError
from vlret.settings import Config


class LargestBatch(NamedTuple):
    """Of all batches that are drawn from a dataset's training questions the largest.

    Attributes
    ----------
    questions
        How many it holds.
    field
        Where the config says so.
    of
        The experiment that it is of.
    """

    questions: int
    field: str
    of: str


def largest_batches(config: Config) -> dict[str, LargestBatch]:
    """The largest batch of each dataset that something is trained on."""
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
    """Raise an `InputError` if a dataset's training questions are about too few entities for a batch."""
    if batch.questions > entities:
        raise InputError(
            f"{batch.field}: {batch.questions} questions of distinct entities in a batch, and the training questions "
            f"have {entities} (of {batch.of}); set it to {entities} or less"
        )
