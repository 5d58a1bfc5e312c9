# `make demo` paints the sample pictures, `make test` runs the tests; both set up what they need first.

# the first that runs and is new enough: a name on the PATH may be a version manager's shim that does not
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PIP_ARGS ?=
# the tests of a file share servers, so a file stays in one process; in the order of folders, the slow ones come first
PARALLEL ?= -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
# there when all is installed: an environment without it was interrupted, and is made anew
READY := $(VENV)/.ready
# so is one that does not work any more: its Python is gone, or the folder was moved
BROKEN := $(shell test ! -e $(READY) || $(BIN)/python -c 'import img2img' 2>/dev/null || rm -f $(READY))

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults soak lint format bench clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

demo: $(READY)  ## paint the sample pictures into demo-output/, on this machine, offline
	@$(BIN)/python -m tools.demo

test: $(READY)  ## run the tests (real Redis, real S3 server, real processes), on all cores
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

faults: $(READY)  ## inject every fault, and print what was lost (nothing)
	@$(BIN)/python -m pytest tests/faults $(ARGS)

soak: $(READY)  ## random faults for MINUTES=10 under load, then an account of every image
	@$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),10)

lint: $(READY)  ## ruff, mypy strict, and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## measure; each table is a command of its own, see bench/README.md
	@$(BIN)/python -m bench

setup: $(READY)  ## virtual environment and pinned dependencies

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none is on the PATH: make PYTHON=..." >&2; exit 1; }
	@test ! -e $(VENV) -o -e $(READY) || { echo "$(VENV) is incomplete or does not work: making it anew"; rm -rf $(VENV); }
	@rm -f $(READY)
	@echo "Setting up $(VENV) (once). What is downloaded, PyTorch above all:"
	@$(PYTHON) -m venv $(VENV)
	@{ $(BIN)/python -u -m pip install --disable-pip-version-check --progress-bar off $(PIP_ARGS) \
		-c constraints.txt -e '.[worker,gateway,dev]' || touch $(VENV)/.failed; } | $(BIN)/python tools/downloads.py
	@test ! -e $(VENV)/.failed
	@# without torchvision: PyPI's does not go with a CPU build of PyTorch, and nothing here has a use for it
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt --no-deps spandrel einops
	@$(BIN)/python -c 'import torch; print("PyTorch", torch.__version__, "for", "CUDA " + torch.version.cuda if torch.version.cuda else "CPU")'
	@touch $(READY)

clean:  ## remove the virtual environment and what the demo made
	rm -rf $(VENV) demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
