"""What every rule asks: `R.made`, `R.reads`, `R.options` and the places of its log and benchmark."""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(os.path.abspath(f"{workflow.current_basedir}/.."))
if str(ROOT) not in sys.path:
    # The package as it lies here: to read the workflow takes Snakemake, PyYAML and Pydantic, and none of what jobs need.
    sys.path.insert(0, str(ROOT))

from vlret.layout.rules import Rules

R = Rules(workflow, config, ROOT)
ENVIRONMENT = f"../envs/{R.config.compute.environment}.yaml"
THREADS = R.config.compute.threads

# Slurm warns all processes of a job of its time limit: Snakemake, the shell and tee live on while training saves its state.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


onstart:
    R.start()


wildcard_constraints:
    **R.constraints,
