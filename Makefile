PYTHON ?= python

.PHONY: help test test-slow check format docs bench

help: ## Say what the targets do.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

test: ## Run the tests (about ten minutes on two cores).
	$(PYTHON) -m pytest

test-slow: ## Run the tests that take minutes each.
	$(PYTHON) -m pytest -m slow

check: ## Lint, formatting, types.
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright

format: ## Format the code.
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench: ## Measure label maps on the documentation's photograph (half an hour) into benchmarks/label_map.csv.
	$(PYTHON) benchmarks/label_map.py

docs: ## Regenerate the command reference and the pictures in the README.
	$(PYTHON) docs/build.py
