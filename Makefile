# Everything here works on a fresh machine with Python 3.11 or later and make; nothing is installed globally.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SIDE_BY_SIDE := --numprocesses 5 --dist loadgroup

# The tests start hundreds of interpreters; without this, each of them would compile our modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once)..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(READY) ## Make the virtual environment and install everything, once

demo: $(READY) ## Start a broker, database and worker, submit 25,000 enrollments, show the results
	@$(BIN)/enroll demo

test: $(READY) ## Check format, lint, types and import rules, and run all tests
	@$(MAKE) --no-print-directory --jobs=2 check run-tests

# In a fresh checkout, one process compiles the tests, or each of the five would compile all of them.
run-tests: $(READY)
	@test -d tests/__pycache__ || $(BIN)/python -m pytest --collect-only -qq >/dev/null || true
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE)

coverage: $(READY) ## Run all tests, and print the modules that they cover least, and the total
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(BIN)/coverage run -m pytest $(SIDE_BY_SIDE)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --sort=cover --skip-covered | awk 'NR < 18 || /^TOTAL/'

test-python: ## Run the tests on another Python: make test-python PYTHON=python3.13
	@$(MAKE) --no-print-directory test VENV=build/$(notdir $(PYTHON))

check: $(READY) ## Check format, lint, types and import rules only
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

faults: $(READY) ## Strike with every kind of fault, then in storms; writes build/faults.json (45 minutes)
	@FAULTS="postgresql=300 sqlite=60 sentinels=30" $(BIN)/python -m pytest -q -s tests/faults/test_signs.py tests/faults/test_storm.py tests/faults/test_front.py
	@$(BIN)/python -m pytest -q -m long

bench: $(READY) ## Measure speed, latency and memory as ratios; writes build/bench.json (some minutes)
	@PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench.py

bench-large: $(READY) ## Measure with a long run of 20,000,000 rows
	@PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench.py --large 20000000

pictures: $(READY) ## Renew the pictures and transcripts of README and docs, from a real session (needs Chromium)
	@PYTHONPATH=tests $(BIN)/python -m support.pictures

format: $(READY) ## Fix the format
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

up: $(READY) ## Keep broker, database and worker running in the foreground
	@$(BIN)/enroll up

clean: ## Remove the virtual environment and everything that was built; the data in .enroll stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

clean-data: ## Delete the data of `enroll up`: students, enrollments and results in .enroll
	rm -rf .enroll

.PHONY: help install demo test run-tests test-python coverage check faults bench bench-large pictures format up clean clean-data
