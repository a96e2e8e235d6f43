# `make` shows what there is. Needs a Python >= 3.11; everything else is set up here, in .venv.
#   PYTHON=...    the Python to make .venv from
#   PIP_ARGS=...  options for every pip call, e.g. --no-index, --find-links or --extra-index-url with a place of yours

PYTHON ?=
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
USABLE := $(VENV)/usable
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := uniperceiver tests $(wildcard examples benchmarks soak)

# OpenMP threads that wait by spinning take the cores from other processes, which costs much where there are few.
export GOMP_SPINCOUNT ?= 0

.PHONY: help env use demo test unit check soak format wheel clean

help:
	@echo "make demo    set up, then train, evaluate and use a small model on generated scenes"
	@echo "make test    set up, then run all tests"
	@echo "make env     only set up (PIP_ARGS='...' goes to pip, PYTHON=... chooses the Python)"
	@echo "make use     only what the library itself needs, as for the demo: no tools, no optional parts"
	@echo "make check   format, lint, types, import rules, all tests"
	@echo "make unit    the quick tests only"
	@echo "make soak    half an hour of stopping, killing and failing disks (docs/reliability.md); goes on where it was stopped"
	@echo "make format  format the code"
	@echo "make wheel   build dist/*.whl"
	@echo "make clean   remove .venv and everything that was built (not runs/)"

env: $(READY)
	@$(BIN)/python -c "" || { \
	  echo "error: $(BIN)/python does not start (was its Python removed or this folder moved?); run: make clean env" >&2; \
	  exit 1; }

use: $(USABLE)

# An existing .venv is kept, and so is a torch that is already in it: whoever wants a certain build installs it first.
$(USABLE): pyproject.toml constraints.txt
	@if [ ! -e $(BIN)/python ]; then \
	  python=""; \
	  for each in $(PYTHON) $(if $(PYTHON),,python3 python3.13 python3.12 python3.11 python); do \
	    if $$each -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then python=$$each; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "error: $(if $(PYTHON),$(PYTHON) is no,found no) Python >= 3.11; install one, or name it: make PYTHON=/path/to/python3 env" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) from $$($$python --version)"; \
	  $$python -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "error: $$python cannot make a virtual environment (on Debian and Ubuntu: install python3-venv)" >&2; exit 1; }; \
	fi
	@$(PIP) --version >/dev/null || { \
	  echo "error: the Python or the pip in $(VENV) does not work (see above); run: make clean env" >&2; exit 1; }
	@if $(BIN)/python -c "import torch" 2>/dev/null; then grep -v "^torch==" constraints.txt; else cat constraints.txt; fi \
	  > $(VENV)/constraints.txt
	$(PIP) install $(PIP_ARGS) --quiet -c $(VENV)/constraints.txt "torch>=2.11,<2.14" hatchling editables
	$(PIP) install $(PIP_ARGS) --quiet -c $(VENV)/constraints.txt --no-build-isolation -e .
	@touch $@

$(READY): $(USABLE)
	$(PIP) install $(PIP_ARGS) --quiet -c $(VENV)/constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@

demo: use
	$(BIN)/uniperceiver demo

# Two test processes: one thread each. What is compiled is kept, whatever the environment says: the tests start the
# library some hundred times.
test unit check soak: export OMP_NUM_THREADS = 1
test unit check soak: export PYTHONDONTWRITEBYTECODE =

test: env
	$(BIN)/python -m pytest -q -m "not gpu and not thorough" -n 2 --timeout 300

unit: env
	$(BIN)/python -m pytest -q

check: env
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py
	$(MAKE) test

soak: env
	$(BIN)/python -m pytest -q -m "thorough and not gpu" --timeout 600
	$(BIN)/python -m soak --out runs/soak

format: env
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

wheel: env
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
