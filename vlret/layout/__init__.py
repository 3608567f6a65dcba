"""Paths of all results, and the inputs and settings of every job."""

from vlret.layout.job import File, Job
from vlret.layout.jobs import Layout
from vlret.layout.paths import OUTPUTS

__all__ = ["OUTPUTS", "File", "Job", "Layout"]
