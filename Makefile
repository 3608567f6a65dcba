# Two commands: `make table` and `make test`. Both install the lock into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= 2
CONFIG ?= config/config.yaml
VENV := .venv
BIN := $(VENV)/bin
# The marker of an installation holds its lock's name: that lock stays the one in use until another is asked for.
INSTALLED := $(shell cat $(VENV)/installed 2> /dev/null)
LOCK ?= $(or $(INSTALLED),envs/cpu.txt)
UV_VERSION := 0.13.9
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Caches compiled functions of ranx and numba, so that each job does not recompile them.
export NUMBA_CACHE_DIR := $(CURDIR)/$(VENV)/numba
export UV_NO_CONFIG := 1

# What is made in minutes of vectors, indices and tables of data. Nothing that took long is made of any of it, so that what
# stays is not made again. The tables of rows and their siblings are files of results/ itself.
ANSWERS := $(foreach kind,runs ablations metrics dynamic,results/*/$(kind)) results/report
CACHES := .pytest_cache .ruff_cache

ifneq ($(shell uname -s),Linux)
$(error vlret runs on Linux, whose locks of files and whose builds of PyTorch it needs)
endif

.PHONY: table report test test-slurm test-whole lint bench install lock clean distclean anew

table: install
	bash workflow/run.sh --cores $(CORES) --configfile $(CONFIG) -- results/table.tex
	@cat results/table.md

report: table
	mkdir -p results/report
	snakemake --cores $(CORES) --configfile $(CONFIG) --report results/report/index.html -- results/table.tex

test: install
	python -m pytest

# On a Slurm that the tests start on this machine, if they can; prints the cost of each fault at the end.
test-slurm: install
	python -m pytest -m slurm tests/slurm

# Every row of config/viquae.yaml from downloads to the table, with tiny models on generated data; 10,000 damaged files a format.
test-whole: install
	python -m pytest -m whole

lint: install
	ruff check .
	ruff format --check .
	snakefmt --check workflow rules
	snakemake --lint

# Every benchmark, an hour on two idle cores: results/benchmarks.md. SMALL=1: only whether they run, two minutes.
bench: install
	python benchmarks --out results/benchmarks.md $(if $(SMALL),--small)

install: $(VENV)/installed

# The lock is installed exactly, compiled to bytecode: where no cache is writable, each job would compile its imports.
# The package itself is installed editable.
$(VENV)/installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	echo $(LOCK) > $@

ifneq ($(LOCK),$(INSTALLED))
$(VENV)/installed: anew
endif

# After a change of pyproject.toml: pin again. The two locks differ only in the build of FAISS and its dependencies.
lock: install
	for kind in cpu gpu; do \
		uv pip compile --quiet --upgrade --python-version 3.11 --extra dev --extra $$kind --no-header --no-annotate \
			pyproject.toml --output-file envs/$$kind.txt; \
		sed --expression '1,/- pip:$$/!d' --in-place envs/$$kind.yaml; \
		sed 's/^/      - /' envs/$$kind.txt >> envs/$$kind.yaml; \
	done

# Rankings, metrics, tables and the report go. What was fetched, data, features, negatives, checkpoints, vectors and indices
# stay, with their logs, and so does what Snakemake knows of them.
clean:
	rm -rf $(ANSWERS) $(CACHES)
	if [ -d results ]; then find -H results -maxdepth 1 -type f -print -delete; fi

# Everything that is made, downloads and checkpoints among it. Links to your own files go, not the files.
distclean:
	du --dereference-args --summarize --human-readable --total $(wildcard results .snakemake $(VENV) $(CACHES) *.egg-info)
	rm -rf results .snakemake $(VENV) $(CACHES) *.egg-info
	find vlret tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
