# An active virtual environment is used; otherwise one is made in .venv. Everything installs into it once.
SHELL := /bin/bash
PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/.hybrid-qrl-installed
OUT ?= runs

.PHONY: demo test check bench slow clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (some minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

# Each study prints its table when it is done; the last line writes the page that lists both.
demo: $(STAMP) ## beam steering and a shortened CartPole, 10 seeds an agent: table and report
	@echo "beam steering: 4 agents x 10 seeds, about 2 minutes on 2 cores"
	@$(BIN)/qrl run experiments/beam-steering/recipe.toml --out $(OUT)/demo
	@echo "CartPole, shortened to 25,000 interactions: 4 agents x 10 seeds, about 2 minutes on 2 cores"
	@$(BIN)/qrl run experiments/cartpole/recipe.toml --out $(OUT)/demo --set study.name=cartpole-short --set budget.interactions=25_000
	@$(BIN)/qrl report $(OUT)/demo | grep '^report:'

test: $(STAMP) ## the default test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: $(STAMP) ## long studies and reproductions
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

check: $(STAMP) ## format, lint, types, import contracts, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: $(STAMP) ## measure the circuits and the ledger against their peers, side by side
	$(BIN)/python tests/bench/bench_circuits.py
	$(BIN)/python tests/bench/bench_ledger.py

clean: ## remove what was derived
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache
