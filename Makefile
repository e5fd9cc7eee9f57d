# demo   install what is needed into .venv and run the demonstration
# test   lint, types, import layers and every test
# check  the same without the tests
# bench  the ratios of the figures in docs/figures.md (slow, run by hand)
# docs   the README's picture and the generated pages

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

.PHONY: demo test check bench docs clean

demo: .venv/.train
	$(BIN)/prill demo

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev
	$(BIN)/python bench/dsir.py
	$(BIN)/python bench/precision.py
	$(BIN)/python bench/step.py
	$(BIN)/python bench/corpus_reading.py

docs: .venv/.dev
	$(BIN)/python docs/make_reference.py
	$(BIN)/prill demo --quiet
	$(BIN)/python docs/make_screenshot.py prill-demo/run/report.html

clean:
	rm -rf .venv

.venv/.pip: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Prill needs Python 3.11 or later, found " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) pip
	touch $@

.venv/.train: .venv/.pip pyproject.toml
	$(PIP) --editable '.[train]'
	touch $@

.venv/.dev: .venv/.train
	$(PIP) --group dev
	touch $@
