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

.PHONY: train test fuzz test-cuda-sim test-cuda bench-cuda parity bench bench-history bench-quick report dashboard \
  dashboard-serve dashboard-test gallery lint format types wheel-test build clean

train: build
	$(BIN)/python examples/train_mlp.py $(ARGS)

# In two processes: most of a first run is compiling kernels, which both then find in the cache. Each begins with half of
# the files, and takes from the other's when it is done.
test: build
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# Kernels for a GPU without one: compiled but never run, and run by Numba's simulator, which is a process of its own.
# CUDA_TABLE=benchmarks/results/cuda/kernels.md writes what the compiled ones take.
CUDA_TABLE :=
test-cuda-sim: build $(VENV)/cuda
	$(if $(CUDA_TABLE),MINIGRAD_CUDA_TABLE="$(CUDA_TABLE)") $(BIN)/python -m pytest -n 2 tests/cuda -m cuda_compile $(ARGS)
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/cuda -m cuda_sim $(ARGS)

# The same programs on the CPU and on a GPU; without one, all of it is skipped, which says so.
test-cuda: build
	$(BIN)/python -m pytest tests/cuda -m "not parity" -rs $(ARGS)

# On a machine with a GPU, with the packages that its PYTHON has: PyTorch, numba-cuda and cuBLAS, and to build minigrad
# meson-python, Cython and scipy-openblas32. No network is needed.
bench-cuda:
	$(PYTHON) -m pip install -q --no-index --no-deps --no-build-isolation --upgrade --target build/cuda .
	PYTHONPATH=build/cuda $(PYTHON) benchmarks/cuda.py $(ARGS)

# A thousand random programs, eager and compiled: the same bits. make fuzz PROGRAMS=20000 SEED=7 draws others. And what
# `make test` leaves out: kernels for dtypes that differ from another in width alone.
PROGRAMS := 1000
SEED := 0
fuzz: build
	MINIGRAD_FUZZ=$(PROGRAMS) MINIGRAD_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -n 2 --dist load \
	  tests/test_compile_fuzz.py $(ARGS)
	$(BIN)/python -m pytest -n 2 --dist load -m wide $(ARGS)

# Against PyTorch, the only thing here that needs it.
parity: build $(VENV)/torch
	$(BIN)/python -m pytest tests/parity -m parity $(ARGS)

# The asv suite on an otherwise idle machine: the last commit, or others: make bench COMMITS=HEAD~5..HEAD. asv installs
# each commit with PyTorch and JAX into an environment of its own. MACHINE=2-core-epyc adds to the committed results.
COMMITS := HEAD^!
MACHINE :=
ASV := env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE PATH="$(CURDIR)/$(BIN):$$PATH" asv
ON := $(if $(MACHINE),--machine "$(MACHINE)")
bench: $(VENV)/bench
	cd benchmarks && $(ASV) run $(ON) --show-stderr $(ARGS) "$(COMMITS)"

# A past for the curves: minigrad's lines only, three minutes a commit: make bench-history COMMITS="HEAD~40 HEAD~20".
bench-history: $(VENV)/bench
	git rev-list --no-walk $(COMMITS) | (cd benchmarks && $(ASV) run $(ON) --show-stderr -a rounds=1 \
	  -a "repeat=(3,20,0.6)" -b "time_work\('minigrad'" $(ARGS) HASHFILE:-)

# The working tree as it is beside eager PyTorch: five cases a family, and the speed-ups of steps and operations. For a
# look in a few minutes; nothing is kept.
bench-quick: build $(VENV)/bench $(VENV)/torch
	cd benchmarks && sed 's|results/asv|.asv/quick|' asv.conf.json > .asv-quick.json
	cd benchmarks && MINIGRAD_BENCH=quick $(ASV) --config .asv-quick.json run -E existing --show-stderr \
	  -b "time_work|(steps|operations).*speedup" $(ARGS)

# All frameworks in turns in one run, which is what the ratios in README.md are: benchmarks/results/*.json. On an
# otherwise idle machine; with the MNIST run too: make report DATA=folder-with-the-IDX-files
report: build $(VENV)/torch $(VENV)/bench
	$(BIN)/python benchmarks/report.py $(ARGS)
	$(BIN)/python benchmarks/linear_cross_entropy.py
	$(if $(DATA),$(BIN)/python benchmarks/mnist.py --data "$(DATA)")

# The measured figures as a site that opens from disk: benchmarks/.asv/html/index.html. Needs npm.
dashboard: $(VENV)/dashboard
	$(BIN)/python benchmarks/dashboard.py

dashboard-serve: dashboard
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory benchmarks/.asv/html 8080

# The site in headless Chromium, and what asv starts; says what it skips without chromium, chromedriver or npm.
dashboard-test: build $(VENV)/dashboard
	$(BIN)/python -m pytest tests/dashboard -m dashboard -rs $(ARGS)

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

$(VENV)/cuda: $(INSTALLED) pyproject.toml
	$(PIP) install -q --group cuda-test
	touch $@

$(VENV)/dashboard: $(INSTALLED) pyproject.toml
	$(PIP) install -q --group dashboard
	touch $@

$(VENV)/bench: $(INSTALLED) pyproject.toml
	$(PIP) install -q --group bench
	$(BIN)/python benchmarks/machines.py
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find minigrad kernels tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find minigrad kernels \( -name '*.so' -o -name '*.c' \) -delete
