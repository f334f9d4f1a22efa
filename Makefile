# Each of these stands alone: it makes its environment, installs, runs.
#   make serve    a fresh machine to a served quickstart        make bench    the README's figures
#   make test     a fresh machine to a passed suite             make wheel    dist/*.whl, dist/*.tar.gz
#   make monitoring   docs/monitoring/*, of the metrics
#   make check    lint, format, types                           make schema   the policies' JSON Schema
# Settings: PYTHON=python3.12  VENV=.venv  PORT=3000  ARGS='-k host' (test) or '--seconds 60' (bench)
#   ARGS=-n0 runs the tests in one process.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
PORT ?= 3000
# A file is one worker's, so that what its tests share is made once. More workers than four only
# wait for each other's servers.
WORKERS = -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
export BENTOML_DO_NOT_TRACK := True

.PHONY: serve test check bench schema monitoring wheel
.DELETE_ON_ERROR:

serve: $(VENV)/.installed
	@if [ -f digits/policy.yaml ]; \
	then exec $(BIN)/scanflow-serve run digits/policy.yaml --port $(PORT); \
	else exec $(BIN)/scanflow-serve quickstart digits --port $(PORT); fi

test: $(VENV)/.installed-dev
	$(BIN)/pytest $(WORKERS) $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/overhead.py $(ARGS)

schema: $(VENV)/.installed-dev
	$(BIN)/scanflow-serve schema > policies/policy.schema.json

monitoring: $(VENV)/.installed-dev
	$(BIN)/python -m scanflow_serve.serving.monitoring docs/monitoring

wheel: $(VENV)/.installed-dev
	$(BIN)/hatchling build --directory dist

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer must be installed, got none on PATH." \
		"Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "PYTHON must be 3.11 or newer, got $$($(PYTHON) --version 2>&1)." \
		"Name another: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) can't make environments. On Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV); this takes a minute the first time."
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV), with what tests need; this takes two minutes the first time."
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed
