# Everything starts here. `make` alone lists what there is.
# Recipes are plain sh; the parts that need thought are in tools/setup.sh.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
PYTEST_ARGS ?=
PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-next lint lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the command in it; as root also the packages the sandbox needs

# The stamp lives inside .venv, so removing .venv is enough to start over, and it is older than
# the lock whenever the lock changes.
$(STAMP): requirements-dev.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh $(VENV) requirements-dev.lock
	@touch $@

demo: $(STAMP) ## the whole story on an embedded source and target
	@$(BIN)/hyperfill demo

test: lint ## lint, then all tests on embedded servers
	$(BIN)/pytest $(PYTEST_ARGS)

test-next: $(STAMP) ## all tests on the next PostgreSQL and TimescaleDB (Debian sid)
	HYPERFILL_SANDBOX_SUITE=sid $(BIN)/pytest $(PYTEST_ARGS)

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Hashes of every wheel of every platform, so one lock serves all Python versions and machines;
# neither the index nor any other address is written into it.
LOCK = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
       --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: $(STAMP) ## resolve the dependencies anew and write both lock files
	$(BIN)/pip install --quiet 'uv>=0.13,<1'
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --group dev -o requirements-dev.lock
	@! grep -nE '[a-z]+://' requirements.lock requirements-dev.lock

clean: ## remove .venv and everything that was generated here (not the download cache)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +
