"""Where every result lies, and what each job of the workflow reads."""

from vlret.layout.job import File, Job
from vlret.layout.jobs import Layout
from vlret.layout.paths import OUTPUTS

__all__ = ["OUTPUTS", "File", "Job", "Layout"]
