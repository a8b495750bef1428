# `make` lists what there is. `make test` and `make demo` need Python >= 3.11
# and nothing else: what they use is installed into .venv first, once.
.DEFAULT_GOAL := help
# One step after the other, also under `make -j`: all share .venv.
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Not what has a target of its own, takes hours or is a part of others.
BENCHMARKS := $(filter-out $(addprefix benchmarks/,\
	results.py methods.py sequence_level.py defaults.py),\
	$(wildcard benchmarks/[a-z]*.py))

# Tests that train next to nothing, of every room.
FAST := tests/test_architecture.py tests/core tests/evaluation tests/report \
	tests/tuning/display tests/targets/hashing \
	$(filter-out %test_contract.py %test_review.py %test_contrastive.py,\
	$(wildcard tests/losses/test_*.py))

# The first interpreter that is new enough; `make PYTHON=... test` overrules.
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python $(NEW_ENOUGH) >/dev/null 2>&1 && echo $$python && break; done)

define TOO_OLD
keras_kd needs Python 3.11 or newer.
Received: PYTHON='$(PYTHON)', $(shell $(PYTHON) --version 2>&1 | head -n 1)
Install one, or name one you have: make $(MAKECMDGOALS) PYTHON=/path/to/python3
endef
export TOO_OLD

# TensorFlow's start-up messages would bury the results.
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Whatever pre-commit keeps stays in the checkout, not in the home folder.
export PRE_COMMIT_HOME := $(CURDIR)/$(VENV)/pre-commit

.PHONY: help install test coverage test-fast test-docs test-slow test-faults \
	demo check docs format notebooks bench bench-methods \
	bench-defaults results clean

help: ## Show this list
	@echo 'usage: make TARGET [PYTHON=python3.x]'
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | \
		expand -t 17

install: $(INSTALLED) ## Install the package and its tools into .venv

test: $(INSTALLED) ## Run the tests, without the slow ones
	@$(BIN)/python -m pytest -n auto --dist loadfile

coverage: $(INSTALLED) ## Run the tests and print what they cover
	@$(BIN)/python -m pytest -n auto --dist loadfile --cov

test-fast: $(INSTALLED) ## Run the tests of a minute, for the inner loop
	@$(BIN)/python -m pytest -q -n auto --dist loadfile $(FAST)

test-docs: $(INSTALLED) ## Run README, docs, notebooks and all examples
	@$(BIN)/python -m pytest -n auto --dist worksteal -m 'docs and not slow'

test-slow: $(INSTALLED) ## Run the slow tests
	@$(BIN)/python -m pytest -m 'slow and not gpu'

test-faults: $(INSTALLED) ## Kill, damage and fill disks under every stage
	@$(BIN)/python -m pytest -s -m faults tests/faults

demo: $(INSTALLED) ## Distil, prune and export a small model of digits
	@$(BIN)/keras-kd run digits

check: $(INSTALLED) docs ## Check format, lint, types, notebooks and docs
	@$(BIN)/pre-commit run --all-files

docs: $(INSTALLED) ## Build the documentation into site/; a dead link fails
	@# Not --quiet: what it does not print does not fail the build either.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(INSTALLED) ## Repair format, import order and notebooks
	@$(BIN)/ruff check --fix --exit-zero --quiet
	@$(BIN)/ruff format
	@find notebooks -name '*.ipynb' -exec \
		$(BIN)/nbstripout --keep-output --keep-count {} +

notebooks: $(INSTALLED) ## Run the notebooks and keep their outputs, small
	@$(BIN)/python notebooks/execute.py

bench: $(INSTALLED) ## Run the benchmarks of time, size and memory
	@test -n '$(BENCHMARKS)' || { echo 'No benchmarks/*.py found.' >&2; exit 1; }
	@set -e; for script in $(BENCHMARKS); do $(BIN)/python $$script; done

bench-methods: $(INSTALLED) ## Compare all methods on one student; takes hours
	@$(BIN)/python benchmarks/methods.py

bench-defaults: $(INSTALLED) ## Compare T, alpha and methods on ten data sets
	@$(BIN)/python benchmarks/defaults.py

results: $(INSTALLED) ## Run all recipes and write the tables of the docs
	@$(BIN)/python benchmarks/results.py

clean: ## Remove caches and build leftovers; .venv stays
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find keras_kd tests benchmarks -name __pycache__ -type d -prune \
		-exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) $(NEW_ENOUGH) 2>/dev/null || { echo "$$TOO_OLD" >&2; exit 1; }
	@echo 'Installing into $(VENV); this takes a few minutes, once.'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@
