# A newcomer's two commands: `make train` and `make test`. Everything is installed into .venv; `make clean` removes it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build/editable
INSTALLED := $(VENV)/installed
TORCH := torch==2.13.0
GALLERY := $(filter-out _% train_mlp evaluate,$(notdir $(basename $(wildcard examples/*.py))))
# Extra arguments: make train ARGS="--epochs 5", make test ARGS="-k linear"
ARGS :=

# Paths are relative, so that the checkout may lie under a name with spaces; the pip step needs the folder in PATH,
# where meson-python looks for ninja and Meson for cython.
PIP := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip

# With make -j, ninja would look for a job server that a recipe does not hand on.
unexport MAKEFLAGS

.PHONY: train test parity bench gallery lint format types wheel-test build clean

train: build
	$(BIN)/python examples/train_mlp.py $(ARGS)

# In two processes: most of a first run is compiling kernels, which both then find in the cache.
test: build
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# Against PyTorch, the only thing here that needs it.
parity: build $(VENV)/torch
	$(BIN)/python -m pytest tests/parity -m parity $(ARGS)

# Beside PyTorch, on an otherwise idle machine; with the MNIST run too: make bench DATA=folder-with-the-IDX-files
bench: build $(VENV)/torch
	for name in train_step products per_op startup linear_cross_entropy; do $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(if $(DATA),$(BIN)/python benchmarks/mnist.py --data "$(DATA)")

# The images of docs/gallery.md: one of every script that is one idea.
gallery: build
	for name in $(GALLERY); do \
	  $(BIN)/python examples/$$name.py --plot docs/gallery/$$name.png || exit 1; done

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED)
	$(BIN)/mypy

# What users get: wheel and sdist, in an empty environment.
wheel-test: $(INSTALLED)
	PYTHON="$(PYTHON)" bash .ci/wheel

# An editable install: Python edits count at once, from any folder and in any process, and an edited .pyx is rebuilt at
# the next import. That rebuild is not locked: of several processes importing at once (tests start many) one may load a
# half-written module, as seen. Hence this step, 15 ms when there is nothing to do, after which an import only finds out
# that it is up to date (10 ms).
build: $(INSTALLED)
	@cd $(BUILD) && "$(CURDIR)/$(BIN)/ninja" --quiet

$(INSTALLED): pyproject.toml meson.build
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --upgrade pip  # --group needs 25.1
	$(PIP) install -q --group dev
	$(PIP) install -q --no-build-isolation -Cbuild-dir=$(BUILD) -e .
	touch $@

$(VENV)/torch: $(INSTALLED)
	$(PIP) install -q $(TORCH)
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find minigrad kernels tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find minigrad kernels \( -name '*.so' -o -name '*.c' \) -delete
