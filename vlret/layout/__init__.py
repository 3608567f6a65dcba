"""Paths of all results, and the inputs and settings of every job."""

from vlret.layout.job import File, Job
from vlret.layout.jobs import Layout
from vlret.layout.paths import OUTPUTS, TRAININGS

__all__ = ["OUTPUTS", "TRAININGS", "File", "Job", "Layout"]
