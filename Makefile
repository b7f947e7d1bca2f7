# Two commands set everything up by themselves: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export MPLBACKEND := Agg
# Small products are fastest on one thread.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1

.PHONY: reproduce reproduce-all test test-lowest lint notebooks docs bench clean

reproduce: $(VENV)/core  ## Set up, recompute the core figures and the claims table, say where they are.
	$(BIN)/python experiments

reproduce-all: $(VENV)/openspiel  ## Recompute every figure from scratch.
	$(BIN)/python experiments --all --fresh

test: $(VENV)/dev lint  ## Set up and run all checks.
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test-lowest:  ## The core tests on the lowest supported numpy, scipy and numba.
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install -q -c constraints-lowest.txt -e . pytest hypothesis
	.venv-lowest/bin/python -m pytest -m "not slow" tests/core

notebooks: $(VENV)/notebooks  ## Execute every notebook; fails where a claim does.
	$(BIN)/python notebooks

docs: $(VENV)/docs  ## Build the documentation site: docs/_build/html/index.html.
	$(BIN)/python -m sphinx -q -W docs docs/_build/html

bench: $(VENV)/bench  ## Side by side with peers, as ratios.
	$(BIN)/python benchmarks

clean:
	rm -rf $(VENV) .venv-lowest

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/openspiel: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[openspiel]"
	touch $@ $(VENV)/core

$(VENV)/dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/core

$(VENV)/notebooks: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[notebooks]"
	touch $@ $(VENV)/openspiel $(VENV)/core

$(VENV)/docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	touch $@ $(VENV)/openspiel $(VENV)/core

$(VENV)/bench: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,bench]"
	touch $@ $(VENV)/dev $(VENV)/core
