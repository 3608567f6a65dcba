# Two commands: `make table` and `make test`. Everything they need is installed into .venv from the lock.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= 2
CONFIG ?= config/config.yaml
LOCK ?= envs/cpu.txt
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Compiled functions of ranx and numba are kept here, so that each job does not compile them anew.
export NUMBA_CACHE_DIR := $(CURDIR)/$(VENV)/numba
export UV_NO_CONFIG := 1

.PHONY: table report test test-slurm test-whole lint bench install lock clean

table: install
	bash workflow/run.sh --cores $(CORES) --configfile $(CONFIG) -- results/table.tex
	@cat results/table.md

report: table
	mkdir -p results/report
	snakemake --cores $(CORES) --configfile $(CONFIG) --report results/report/index.html -- results/table.tex

test: install
	python -m pytest

# On a Slurm that the tests bring up on this machine, where they may; what each fault cost is printed at the end.
test-slurm: install
	python -m pytest -m slurm tests/slurm

# Every row of config/viquae.yaml from downloads to the table, with tiny models on generated data.
test-whole: install
	python -m pytest -m whole tests/test_viquae.py

lint: install
	ruff check .
	ruff format --check .
	snakefmt --check workflow rules
	snakemake --lint

bench: install
	for benchmark in $$(grep --files-with-matches __main__ benchmarks/*.py); do python $$benchmark || exit 1; done

install: $(VENV)/installed

# The lock goes in exactly, compiled to bytecode: where no caches may be written, each job would compile what it imports.
# The package itself goes in as it lies here, so that an edit is at once what runs.
$(VENV)/installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# After a change of pyproject.toml: pin anew. The two locks differ by the build of FAISS and what that needs.
lock: install
	for kind in cpu gpu; do \
		uv pip compile --quiet --upgrade --python-version 3.11 --extra dev --extra $$kind --no-header --no-annotate \
			pyproject.toml --output-file envs/$$kind.txt; \
		sed --expression '1,/- pip:$$/!d' --in-place envs/$$kind.yaml; \
		sed 's/^/      - /' envs/$$kind.txt >> envs/$$kind.yaml; \
	done

clean:
	rm -rf results .snakemake .pytest_cache .ruff_cache
