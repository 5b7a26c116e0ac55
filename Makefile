# `make` alone says what there is. Nothing is needed but make and Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
# Most tests wait for servers and processes; three at a time fill two cores. 0 runs them one by one.
WORKERS ?= 3
# What make mixture asks for, and the seed it draws everything from; empty for a new one.
REQUESTS ?= 2000
SEED ?=
# How many seeds make simulate runs, from 0 on.
SEEDS ?= 100000
TARGETS := demo test mixture simulate setup lint lock help

.PHONY: $(TARGETS)
.SILENT:

help:
	echo "make demo    everything from a clean checkout to a running system; ARGS='--requests 40 --exit' for a short one"
	echo "make test    everything that must pass; ARGS='tests/devstack -k port' for a part of the tests"
	echo "make mixture everything that can go wrong at once, REQUESTS=2000 times; SEED=… for the same again"
	echo "make simulate the whole path in memory, in virtual time, SEEDS=100000 times; ARGS='--seed 17' for one"
	echo "make setup   the environment alone: .venv with the command darkroom in it"
	echo "make lint    the checks of make test that run no code"
	echo "make lock    write requirements.lock anew from pyproject.toml (needs uv)"

setup:
	command -v $(PYTHON) >/dev/null || { echo "setup: $(PYTHON) is not there; install Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) bootstrap.py

demo: setup
	exec $(BIN)/darkroom demo $(ARGS)

lint: setup
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo >.venv/lint-imports.log 2>&1 || { cat .venv/lint-imports.log; exit 1; }

test: lint
	exec $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

mixture: setup
	MIXTURE_REQUESTS=$(REQUESTS) MIXTURE_SEED=$(SEED) exec $(BIN)/python -m pytest -q \
		tests/services/test_mixture.py tests/faults/test_mixture.py -k mixture_of_all

simulate: setup
	exec $(BIN)/python -m simulation --seeds 0..$$(($(SEEDS) - 1)) $(ARGS)

lock:
	command -v uv >/dev/null || { echo "lock: uv is not there; pip install uv" >&2; exit 1; }
	printf '# Every package with its hashes, for Python 3.11 and newer. Written by make lock; not to be edited.\n' >requirements.lock.new
	echo 'setuptools>=77' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra demo --extra tests pyproject.toml - >>requirements.lock.new
	mv requirements.lock.new requirements.lock

.DEFAULT:
	echo "there is no target '$@'; there are: $(TARGETS)" >&2; exit 2
