# The verbs of this project. `make help` lists them.
# Installing is skipped while the stamp in .venv is newer than pyproject.toml and constraints.txt.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
CORE   := $(VENV)/.parakit-core
DEV    := $(VENV)/.parakit-dev

# Shows pip's progress as one short line a package, and its last lines whole.
SHOW_PIP := awk '/^Collecting/ {print "  fetching " $$2} /^Installing collected/ {print "  installing them"} \
  /^(Successfully installed|ERROR)/ {print "  " substr($$0, 1, 100)} {fflush()}'

# The CPU kernels, so that the first command does not wait for them; without a compiler it says what runs instead.
COMPILE := $(BIN)/python -c 'from parakit.model.kernels import load_kernels, load_training_kernels as of_training; load_kernels(), of_training()'

# Each worker begins with a share of the tests in order, so that files stay together; one that is done takes over half
# of what another has left. The slowest are printed: CONTRIBUTING.md says what a test may take.
SPREAD := -n auto --dist worksteal --durations 15

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install install-core check format test test-long quickstart real-models bench bench-gate bench-gpu bench-table exports schema pitfalls models screenshots clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Parakit needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	  echo "  Install one and name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version 2>&1 | head -n 1)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing PyTorch and what Parakit needs into $(VENV) (one to three minutes, about 1 GB)"
	@$(PIP) install -c constraints.txt -e . | $(SHOW_PIP)
	@$(COMPILE)
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing PyTorch, what Parakit needs and the development tools into $(VENV) (some minutes, about 2 GB)"
	@$(PIP) install --no-compile -c constraints.txt -e '.[dev]' | $(SHOW_PIP)
	@$(COMPILE)
	@touch $(CORE) $@

install: $(DEV) ## create .venv with everything for development

install-core: $(CORE) ## create .venv with what Parakit needs at run time

check: $(DEV) ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(DEV) ## the test suite (some minutes on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" $(SPREAD)

test-long: $(DEV) ## the whole suite with the long tests; those on published models need make real-models
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD)

real-models: $(DEV) ## fetch two small published models into .models (190 MB)
	$(BIN)/python -m tests.real_models

quickstart: $(CORE) ## install, build the built-in recipe, print how to chat
	$(BIN)/parakit build
	@echo "Here parakit is $(BIN)/parakit; after '. $(BIN)/activate' it is just parakit."

bench: $(DEV) ## run one benchmark: make bench NAME=tokenizer ARGS='--repeats 1'
	@test -n "$(NAME)" || { $(BIN)/python -m benchmarks; exit 2; }
	$(BIN)/python -m benchmarks $(NAME) $(ARGS)

bench-gate: $(DEV) ## the five benchmarks whose targets a release must meet (under 30 minutes)
	@missed=""; for name in quickstart families against_trl tokenizer loading; do \
	  echo "bench-gate: $$name"; $(BIN)/python -m benchmarks $$name > /dev/null || missed="$$missed $$name"; done; \
	  test -z "$$missed" || { echo "bench-gate: missed:$$missed" >&2; exit 1; }

bench-gpu: $(DEV) ## decoding and training on a GPU against what its memory and its products allow (under ten minutes)
	@missed=0; for name in engine_gpu training_gpu; do \
	  $(BIN)/python -m benchmarks $$name || missed=1; done; exit $$missed

bench-table: $(DEV) ## generate docs/benchmarks.md and the README's rows from benchmarks/results/
	$(BIN)/python -m benchmarks.results_page

exports: $(DEV) ## update the pinned exports after an intended change
	$(BIN)/python tests/architecture/exported_names.py

schema: $(DEV) ## update recipes/recipe.schema.json after an intended change
	$(BIN)/python -m parakit.recipe.schema recipes/recipe.schema.json

pitfalls: $(DEV) ## generate docs/pitfalls.md from the doctor's checks
	$(BIN)/python tests/architecture/pitfalls_page.py

models: $(DEV) ## generate the table of architectures in docs/models.md
	$(BIN)/python -m tests.architecture.models_page

screenshots: $(DEV) ## take the pictures of docs/studio.md: make screenshots STUDIO=FOLDER
	$(BIN)/python -m tests.serving.studio.take_pictures "$(or $(STUDIO),.)" docs/studio
	$(BIN)/python -m tests.serving.studio.screenshots "$(or $(STUDIO),.)"

clean: ## remove caches; builds and .venv stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
