# Needs git, make and Python 3.11 to 3.13. 'make' alone prints what can be done.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help install install-dev run lint test test-all bench audit ui screenshots pins clean

VENV := $(CURDIR)/.venv
PORT ?= 5000
ENTRY ?= pipeline
# The environment is used as if it were activated, so that a plain 'mlflow run' finds it.
export VIRTUAL_ENV := $(VENV)
export PATH := $(VENV)/bin:$(PATH)
unexport PYTHONHOME PYTHONPATH

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo 'Parameters: make run ARGS="-P curriculum=fast"   one stage: make run ENTRY=efficiency'

install: ## Create .venv and install the pinned packages (does nothing when they are there)
	@bash tools/setup.sh

install-dev:
	@bash tools/setup.sh dev

run: export MLFLOW_LOGGING_LEVEL ?= WARNING
run: install ## Train and evaluate: 'mlflow run . -e pipeline', then say where to look
	mlflow run . -e $(ENTRY) $(ARGS)
	@python tools/ui.py $(PORT)

lint: install-dev ## Check style, formatting and types (ruff, mypy)
	ruff check .
	ruff format --check .
	mypy

test: install-dev ## Run the quick tests
	python -m pytest -m "not slow" -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: install-dev ## Run every test
	python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

bench: install ## Measure speed and accuracy beside peers (ARGS="--sections filter --batches 1,1024")
	@for peer in $$(grep -v '^#' requirements-bench.txt); do \
	    pip install --quiet --disable-pip-version-check $$peer --constraint constraints.txt || echo "$$peer: left out" >&2; done
	python -m benchmarks.harness $(ARGS)

audit: ## Look up known vulnerabilities of the pinned packages (pip-audit; says so where there is no network)
	@bash tools/audit.sh

ui: install ## Open the light MLflow UI on this machine (PORT=5000)
	@python tools/ui.py --serve $(PORT)

screenshots: install-dev ## Take the pictures in docs/images of the runs in mlflow.db (needs Chromium)
	python -m pytest tests/browser --store sqlite:///$(CURDIR)/mlflow.db --screenshots docs/images $(ARGS)

pins: install-dev ## Record the installed versions after a change of requirements*.txt
	python tools/pins.py write

clean: ## Remove the environment and caches; runs (mlflow.db, mlruns/) stay
	rm -rf .venv .audit .jax_cache .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
