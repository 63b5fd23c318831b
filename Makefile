# One command per chore. `make run` and `make test` set up everything they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-header --no-annotate
ARGS ?=

.PHONY: help run test test-deep test-crash lint format bench lock clean
.DEFAULT_GOAL := help

help: ## show what can be done
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp ## start the service on port 5000 (ARGS="--port 5050" adds flags)
	$(BIN)/policy-engine serve $(ARGS)

test: $(VENV)/dev.stamp ## run the tests
	$(BIN)/python -m pytest -n 2 -m "not deep and not crash" $(ARGS)

test-deep: $(VENV)/dev.stamp ## run the long random tests
	$(BIN)/python -m pytest -m deep -s $(ARGS)

test-crash: $(VENV)/dev.stamp ## kill the service at random moments, many times, and look for what is lost
	$(BIN)/python -m pytest -m crash -s $(ARGS)

lint: $(VENV)/dev.stamp ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/bench.stamp ## measure beside the peers and compare with benchmarks/thresholds.toml
	$(BIN)/python -m benchmarks $(ARGS)

lock: $(VENV)/dev.stamp ## pin the newest allowed versions of everything, with hashes
	$(PIP) install uv
	$(COMPILE) pyproject.toml --output-file requirements/run.lock
	$(COMPILE) pyproject.toml --extra dev --constraint requirements/run.lock --output-file requirements/dev.lock
	$(COMPILE) pyproject.toml --extra dev --extra bench --constraint requirements/dev.lock --output-file requirements/bench.lock
	$(COMPILE) requirements/build.in --constraint requirements/dev.lock --output-file requirements/build.lock

clean: ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The locks pin every package by hash; the project itself is then installed without asking any index.
$(VENV)/%.stamp: requirements/%.lock requirements/build.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/build.lock -r requirements/$*.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
