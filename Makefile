.DEFAULT_GOAL := help
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
STAMP := .venv/.ready

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## virtual environment, pinned packages, a JRE and g++ where they are missing

$(STAMP): pyproject.toml constraints.txt infra/setup.sh
	bash infra/setup.sh
	@touch $@

demo: $(STAMP) ## generate a small world and run the whole pipeline on it
	htcl demo

test: $(STAMP) ## all tests but the long training ones
	python -m pytest -m "not evidence"

test-fast: $(STAMP) ## unit tests only
	python -m pytest tests/unit

lint: $(STAMP) ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

format: $(STAMP) ## let ruff mend and format
	ruff check --fix .
	ruff format .

evidence: $(STAMP) ## train on a fresh generated world; stage 2 must beat stage 1 and keep its semantics
	python -m pytest -m evidence -s tests/integration/test_evidence.py

CONCERT := ../shared/data/concert

concert: $(STAMP) ## run the pipeline on the concert data (CONCERT=FOLDER where it does not lie beside the checkout)
	htcl run tests/integration/concert.yaml --set catalog.path=$(abspath $(CONCERT))/catalog.jsonl \
		--set catalog.audio_root=$(abspath $(CONCERT)) --set interactions.path=$(abspath $(CONCERT))/interactions

serve: $(STAMP) ## start a Prefect server and a worker with the three deployments
	htcl demo --no-run
	bash infra/prefect/serve.sh

constraints: $(STAMP) ## write the installed versions into constraints.txt
	pip freeze --exclude-editable | grep -vi '^gt[-_]all' | sed 's/+cpu//' > constraints.txt

clean: ## delete the environment, caches and workspace
	rm -rf .venv workspace .pytest_cache .mypy_cache .ruff_cache .hypothesis htcl.egg-info

.PHONY: help setup demo test test-fast lint format evidence concert serve constraints clean
