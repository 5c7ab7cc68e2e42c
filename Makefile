# Everything a developer or CI runs. On a fresh machine only python3 (3.11 or newer) and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-quick test-long mutants lowest lint types check bench docs clean
help:
	@echo "make demo        simulate a night, reduce it, compare with the truth"
	@echo "make test        every test: what must run alone, then two workers (8 minutes on two cores)"
	@echo "make test-quick  the rooms without whole jobs, few examples (90 s)"
	@echo "make test-long   tests of minutes, servers and browsers"
	@echo "make mutants     plant faults, run the tests that guard against them, name the survivors (15 minutes)"
	@echo "make lowest      one small road on the lowest versions that are declared"
	@echo "make lint        ruff                    make types   mypy --strict"
	@echo "make check       lint + types + test     make bench   fair timings against peers"
	@echo "make docs        the reference           make clean   remove what make made"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install -q -e .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install -q -e ".[test]"
	@touch $@ $(VENV)/.package

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	$(BIN)/python -m pip install -q -e ".[dev]"
	@touch $@ $(VENV)/.test $(VENV)/.package

demo: $(VENV)/.package
	$(BIN)/getframes-xr demo

PYTEST := $(BIN)/python -m pytest -q
BESIDE := -n 2

test: $(VENV)/.test
	$(BIN)/python -m tests.warm
	@failed=0; \
	$(PYTEST) -m "alone and not long" $(ARGS) || failed=$$?; \
	$(PYTEST) $(BESIDE) -m "not alone and not long" $(ARGS) || failed=$$?; \
	exit $$failed

test-quick: $(VENV)/.test
	HYPOTHESIS_PROFILE=quick $(PYTEST) $(BESIDE) -m "not alone and not long and not slow" $(ARGS)

test-long: $(VENV)/.test
	$(PYTEST) -m long $(ARGS) || test $$? -eq 5  # 5: no test is that long today

mutants: $(VENV)/.test
	$(BIN)/python -m tests.mutants

lowest: $(VENV)/.test
	$(BIN)/python -m tests.lowest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types test

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

docs: $(VENV)/.package
	$(BIN)/python docs/build_reference.py

clean:
	rm -rf $(VENV) .mutants .lowest .pytest_cache .mypy_cache .ruff_cache demo processed
