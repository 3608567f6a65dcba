#!/usr/bin/env bash
# Snakemake runs this in the new environment, from the root of the repository.
set -euo pipefail
pip install --no-deps --editable "$PWD"
