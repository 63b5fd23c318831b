# One command per chore. `make run` and `make test` set up everything they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-header --no-annotate
DEV := --extra dev --extra privacy --extra demo
FLOWER := .venv-flower
FUZZ := .venv-fuzz
AUDIT := .venv-audit
FUZZ_SECONDS ?= 600
ARGS ?=

.PHONY: help run test test-deep test-crash test-flower fuzz fuzz-quick audit-deps lint format bench bench-trust demo lock clean
.DEFAULT_GOAL := help

help: ## show what can be done
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp ## start the service on port 5000 (ARGS="--port 5050" adds flags)
	$(BIN)/policy-engine serve $(ARGS)

test: $(VENV)/dev.stamp ## run the tests
	$(BIN)/python -m pytest -n 2 -m "not deep and not crash and not flower" $(ARGS)

test-deep: $(VENV)/dev.stamp ## run the long random tests
	$(BIN)/python -m pytest -m deep -s $(ARGS)

test-crash: $(VENV)/dev.stamp ## kill the service at random moments, many times, and look for what is lost
	$(BIN)/python -m pytest -m crash -s $(ARGS)

test-flower: $(FLOWER)/flower.stamp ## run the tests of the Flower integration, with Flower, in an environment of its own
	$(FLOWER)/bin/python -m pytest -m flower tests/flower $(ARGS)

fuzz: $(FUZZ)/fuzz.stamp ## give strangers' bytes to what reads them, 10 minutes each (FUZZ_SECONDS=)
	$(FUZZ)/bin/python -m fuzz $(FUZZ_SECONDS)
	$(FUZZ)/bin/python -m fuzz.service $(FUZZ_SECONDS)

fuzz-quick: $(FUZZ)/fuzz.stamp ## the same for 15 seconds each, the service for 60
	$(FUZZ)/bin/python -m fuzz 15
	$(FUZZ)/bin/python -m fuzz.service 60

audit-deps: $(AUDIT)/audit.stamp ## ask whether a pinned package is known to be vulnerable; fails as well when that cannot be asked
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/run.lock \
		|| { echo "audit-deps: not passed: a package is vulnerable, or the advisory service could not be asked; see above" >&2; exit 1; }

lint: $(VENV)/dev.stamp ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/bench.stamp ## measure beside the peers and compare with benchmarks/thresholds.toml
	$(BIN)/python -m benchmarks $(ARGS)

bench-trust: $(VENV)/dev.stamp ## attack federations under each defence and compare with benchmarks/trust/thresholds.toml (ARGS=--quick)
	$(BIN)/python -m benchmarks.trust $(ARGS)

demo: $(VENV)/dev.stamp ## attack a small federation, with and without the engine (ARGS="--attack label_flip")
	$(BIN)/policy-engine demo federation $(ARGS)

lock: $(VENV)/dev.stamp ## pin the newest allowed versions of everything, with hashes
	$(PIP) install uv
	$(COMPILE) pyproject.toml --output-file requirements/run.lock
	$(COMPILE) pyproject.toml $(DEV) --constraint requirements/run.lock --output-file requirements/dev.lock
	$(COMPILE) pyproject.toml $(DEV) --extra bench --constraint requirements/dev.lock --output-file requirements/bench.lock
	$(COMPILE) pyproject.toml requirements/build.in --extra dev --extra demo --extra flower --output-file requirements/flower.lock
	$(COMPILE) pyproject.toml requirements/build.in requirements/fuzz.in --constraint requirements/run.lock --output-file requirements/fuzz.lock
	$(COMPILE) requirements/audit.in --output-file requirements/audit.lock
	$(COMPILE) requirements/build.in --constraint requirements/dev.lock --output-file requirements/build.lock

clean: ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) $(FLOWER) $(FUZZ) $(AUDIT) fuzz/found build dist .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The locks pin every package by hash; the project itself is then installed without asking any index.
$(VENV)/%.stamp: requirements/%.lock requirements/build.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/build.lock -r requirements/$*.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Flower pins libraries of its own, so it gets an environment of its own; what builds the project is in its lock too.
$(FLOWER)/bin/python:
	$(PYTHON) -m venv $(FLOWER)

$(FLOWER)/flower.stamp: requirements/flower.lock pyproject.toml | $(FLOWER)/bin/python
	$(FLOWER)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/flower.lock
	$(FLOWER)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

# What fuzzes pins libraries of its own too.
$(FUZZ)/bin/python:
	$(PYTHON) -m venv $(FUZZ)

$(FUZZ)/fuzz.stamp: requirements/fuzz.lock pyproject.toml | $(FUZZ)/bin/python
	$(FUZZ)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/fuzz.lock
	$(FUZZ)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

$(AUDIT)/bin/python:
	$(PYTHON) -m venv $(AUDIT)

$(AUDIT)/audit.stamp: requirements/audit.lock | $(AUDIT)/bin/python
	$(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/audit.lock
	@touch $@
