# Two commands do everything: `make demo` and `make test`. `make` alone lists the verbs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The first interpreter that runs and is 3.11, 3.12 or 3.13. Override with `make PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$python" && break; done)
# Results must not depend on how many cores a machine has.
export OMP_NUM_THREADS := 2
export OMP_WAIT_POLICY := PASSIVE
export OPENBLAS_NUM_THREADS := 1
export MPLBACKEND := agg
export PYTHONHASHSEED := 0
# Stages call `python`; it has to be the one of this environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## List these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml deploy/check-system
	@deploy/check-system "$(PYTHON)"
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m ipykernel install --sys-prefix --name eguard --display-name "Python (eguard)" >/dev/null
	@touch $@

.PHONY: env
env: $(READY) ## Create the virtual environment from the hash-locked requirements

.PHONY: demo
demo: $(READY) ## Take the shipped data through the pipeline to a signed bundle and an evidence report
	$(BIN)/python -m pipelines.demo

.PHONY: fleet
fleet: $(READY) ## Run a server and three agents through the fleet's loop, every step with its rows
	$(BIN)/eguard simulate loop

.PHONY: test
test: $(READY) ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: check
check: $(READY) ## Lint, type-check, check import layers, notebooks and the pipeline's graph
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/nbstripout --verify --keep-id --extra-keys "metadata.papermill cell.metadata.papermill" notebooks/*.ipynb
	$(BIN)/dvc dag --quiet

.PHONY: notebooks
notebooks: $(READY) ## Execute the notebooks on the pipeline's latest results
	$(BIN)/dvc repro report

.PHONY: bench
bench: $(READY) ## Measure speed against peers, as ratios in one run
	$(BIN)/python -m benchmarks

.PHONY: docs
docs: $(READY) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: lock
lock: $(READY) ## Resolve the requirements anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock

.PHONY: clean
clean: ## Delete everything that a command here can make again (keys are kept)
	rm -rf $(VENV) data/interim data/processed models bundles reports site dist build .dvc/cache .dvc/tmp \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
