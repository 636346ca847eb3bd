# Every target sets up what it needs: a virtual environment, system packages, the web parts.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.ONESHELL:
.SILENT:
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

include make/setup.mk
include make/peers.mk

.PHONY: demo test test-peers lint operator-pages docs bench lock clean

demo: setup  ## Play a simulated hospital into a demo site; stays up until Ctrl-C
	$(BIN)/overread demo --site demo-site $(DEMO_ARGS)

test: setup  ## The whole test suite
	$(BIN)/python -m pytest -m "not peers" $(TEST_ARGS)

test-peers: setup build/peers.done  ## What is heavier: long fault loops and large peers
	$(PEERS)/python -m pytest -m peers $(TEST_ARGS)

lint: $(VENV)/.done  ## Format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

operator-pages: $(VENV)/.done  ## docs/operators/, from signatures and docstrings
	$(BIN)/python make/operator_pages.py

docs: $(VENV)/.done  ## The documentation, as a site in site-docs/
	$(BIN)/mkdocs build --strict

bench: setup  ## The measurements of bench/
	$(BIN)/python -m bench $(BENCH_ARGS)

lock:  ## Compile constraints.txt (needs uv)
	uv pip compile -q --generate-hashes --no-header --no-emit-index-url --no-annotate \
	    --python-version 3.11 pyproject.toml --group dev --group docs -o constraints.txt

clean:
	rm -rf $(VENV) node_modules build demo-site site-docs
