# An active virtual environment is used; otherwise one is made in .venv. Everything installs into it once.
SHELL := /bin/bash
PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
# The demo needs the package alone; everything else also what tests and checks it.
DEV := $(VENV)/.hybrid-qrl-dev
STAMP := $(if $(filter-out demo,$(or $(MAKECMDGOALS),help)),$(DEV),$(or $(wildcard $(DEV)),$(VENV)/.hybrid-qrl-installed))
ENGINE := circuits/engine/_build.json
OUT ?= runs

.PHONY: demo demo-hardware test check bench slow engine sanitize clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt hatch_build.py | $(BIN)/python
	@echo "installing into $(VENV) (some minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.$(if $(filter $(DEV),$@),[dev])'
	@touch $@

# The installation compiles the circuit engine; this only looks whether its sources have changed since. Where there is
# no compiler everything still runs, on torch.
$(ENGINE): $(wildcard circuits/engine/kernel/*) circuits/engine/build.py | $(STAMP)
	@$(BIN)/python circuits/engine/build.py || true

# Each study prints its table when it is done; the last line writes the page that lists all.
demo: $(ENGINE) ## beam steering, CartPole and a slice of free-energy learning, 10 seeds an agent: tables and report
	@echo "beam steering: 4 agents x 10 seeds, about 1 minute on 2 cores"
	@$(BIN)/qrl run experiments/beam-steering/recipe.toml --out $(OUT)/demo
	@echo "CartPole, the published 200,000 interactions: hybrid and twin x 10 seeds, about 2 minutes on 2 cores"
	@$(BIN)/qrl run experiments/cartpole/recipe.toml --out $(OUT)/demo --agents hybrid,twin
	@echo "CERN target steering: Boltzmann machine and classical networks of its symmetries x 10 seeds, a quarter of a minute"
	@$(BIN)/qrl run experiments/cern-target-steering/recipe.toml --out $(OUT)/demo --seeds 0:10 --agents machine,lncosh,symmetric-mlp,mlp
	@$(BIN)/qrl report $(OUT)/demo | grep '^report:'

# Nothing outside 127.0.0.1 is reached, and nothing is paid: the service is our own.
demo-hardware: $(ENGINE) ## an evaluation on a loopback cloud service, its client killed and collected; half a minute
	@OMP_NUM_THREADS=1 $(BIN)/python tests/emulator/demo.py $(OUT)

test: $(ENGINE) ## the default test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: $(ENGINE) ## long studies and reproductions
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

check: $(STAMP) ## format, lint, types, import contracts, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# The jax peers are measured where they install. The ledger's program exits 1 where a bound is exceeded.
bench: $(ENGINE) ## measure circuits and ledger against their peers, side by side; QUICK=1: a part of it, in 2 minutes
	$(if $(QUICK),,-$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]')
	$(if $(QUICK),,-$(BIN)/python tests/bench/bench_ledger.py)
	$(BIN)/python tests/bench/bench_circuits.py

engine: $(STAMP) ## compile the circuit engine where its sources changed, and say how
	$(BIN)/python circuits/engine/build.py

# The sanitizers' runtime must be loaded before Python, and C++'s with it; what Python never frees is not looked for.
sanitize: $(STAMP) ## the engine's tests under the address and undefined-behaviour sanitizers
	CXX=g++ $(BIN)/python circuits/engine/build.py --sanitize
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
		QRL_ENGINE=sanitized QRL_REQUIRE_ENGINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/circuits/engine tests/circuits/boltzmann/test_sqa.py

clean: ## remove what was derived
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache
