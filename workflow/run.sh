#!/usr/bin/env bash
# Run Snakemake, also where an earlier run was killed: the lock that it left is removed, and what it left incomplete is
# made again. Only one run at a time gets past flock, and it holds that lock as long as it lives: its jobs do not
# inherit it, so a job that outlived its killed run does not keep the next one out.
set -euo pipefail
if [ "$(uname -s)" != Linux ] || ! command -v flock > /dev/null; then
    echo "workflow/run.sh: this runs on Linux, with flock, which the package util-linux has; install that, or call snakemake" \
        "yourself and see to it that only one run is at work in this folder" >&2
    exit 1
fi
mkdir -p .snakemake
exec 9> .snakemake/run.lock
if ! flock --nonblock 9; then
    echo "workflow/run.sh: another run is at work in this folder; name the tables of both grids in one run, or give this" \
        "one a folder of its own with --directory (docs/experiments.md, Several grids)" >&2
    exit 1
fi
if compgen -G ".snakemake/locks/*" > /dev/null; then
    snakemake --unlock "$@"
fi
exec snakemake --rerun-incomplete "$@"
