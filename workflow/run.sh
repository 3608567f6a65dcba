#!/usr/bin/env bash
# Run Snakemake, also after a killed run: its lock is removed, and its incomplete outputs are made again. flock admits
# one run at a time; jobs do not inherit that lock, so a job that outlived its killed run does not block the
# next one.
set -euo pipefail
if [ "$(uname -s)" != Linux ] || ! command -v flock > /dev/null; then
    echo "workflow/run.sh: this runs on Linux, with flock, which the package util-linux has; install that, or call snakemake" \
        "yourself and see to it that only one run is at work in this folder" >&2
    exit 1
fi
mkdir -p .snakemake
exec 9> .snakemake/run.lock
if ! flock --nonblock 9; then
    echo "workflow/run.sh: another run is active in this folder; name the tables of both grids in one run, or give this" \
        "one its own folder with --directory (docs/running.md, Several grids)" >&2
    exit 1
fi
if compgen -G ".snakemake/locks/*" > /dev/null; then
    snakemake --unlock "$@" 9>&- # killed, it must not leave the lock with this one
fi
exec snakemake --rerun-incomplete "$@"
