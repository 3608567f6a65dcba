"""Used by every rule: `R.made`, `R.reads`, `R.options`, and the paths of its log and benchmark."""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(os.path.abspath(f"{workflow.current_basedir}/.."))
if str(ROOT) not in sys.path:
    # The package is imported from here: parsing the workflow needs only Snakemake, PyYAML and Pydantic.
    sys.path.insert(0, str(ROOT))

from vlret.layout.rules import Rules

R = Rules(workflow, config, ROOT)
ENVIRONMENT = f"../envs/{R.config.compute.environment}.yaml"
THREADS = R.config.compute.threads

# Slurm's warning before a time limit reaches all processes of a job; only the training must react, by saving its state.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


onstart:
    R.start()


wildcard_constraints:
    **R.constraints,
