.DEFAULT_GOAL := help
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
STAMP := .venv/.ready

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-20s %s\n", $$1, $$2}'

setup: $(STAMP) ## virtual environment, pinned packages, a JRE and g++ where they are missing

$(STAMP): pyproject.toml constraints.txt infra/setup.sh
	bash infra/setup.sh
	@touch $@

HOST_TOOLS := openssh-server iproute2 postgresql shellcheck faketime chromium fonts-liberation
setup-hosts: ## what some tests need of the machine: sshd, ip, PostgreSQL, shellcheck, libfaketime, Chromium (apt; root)
	dpkg -s $(HOST_TOOLS) >/dev/null 2>&1 || \
		{ apt-get update -q && apt-get install -y -q --no-install-recommends $(HOST_TOOLS); }

demo: $(STAMP) ## generate a small world and run the whole pipeline on it
	htcl demo

# Two files of tests at a time; the long ones stand first.
BESIDE := -n 2 --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## all tests but the long training ones
	python -m pytest -m "not evidence" $(BESIDE)

test-fast: $(STAMP) ## unit tests only
	python -m pytest tests/unit $(BESIDE)

lint: $(STAMP) ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

format: $(STAMP) ## let ruff mend and format
	ruff check --fix .
	ruff format .

evidence: $(STAMP) ## train on a fresh generated world; stage 2 must beat stage 1 and keep its semantics
	python -m pytest -m evidence -s tests/integration/test_evidence.py

ablation: $(STAMP) ## train every option of the recipe on a generated world and print what it changes
	python -m tests.benchmarks.ablation

CARD := workspace/report-card
CARD_SEEDS := 31 32 33
# musicnn needs an old TensorFlow, so it lives in an environment of its own; where that is there, the cards have it.
MUSICNN = $(if $(wildcard .venv-musicnn/bin/python),--set report_card.musicnn_python=$(CURDIR)/.venv-musicnn/bin/python)

report-card: $(STAMP) ## the report card of three generated worlds: every model and variant against every competitor (hours)
	for seed in $(CARD_SEEDS); do htcl demo --root $(CARD)/$$seed --songs 900 --seed $$seed || exit 1; done
	htcl evaluate $(CARD_SEEDS:%=$(CARD)/%/htcl.yaml) --variants $(MUSICNN)

report-card-concert: $(STAMP) concert ## the same of the concert data, three trainings of each model
	htcl evaluate tests/integration/concert.yaml --seeds 3 --variants $(CONCERT_PATHS) $(MUSICNN)

tune: $(STAMP) ## tune the competitors of the report card on worlds that are never reported
	python -m tests.benchmarks.tune_competitors

notebook: $(STAMP) demo ## run docs/songs.py on the demo and keep what it shows as docs/songs.ipynb
	PYTHONWARNINGS="ignore:IProgress" jupytext --to ipynb --execute --run-path . docs/songs.py -o docs/songs.ipynb

musicnn: ## an environment with musicnn, one more competitor of the report card
	python3 -m venv .venv-musicnn
	.venv-musicnn/bin/pip install -q 'tensorflow-cpu==2.15.1' 'numpy<2' librosa 'setuptools<81'
	.venv-musicnn/bin/pip install -q --no-deps musicnn==0.1.0

golden: $(STAMP) ## write the golden losses anew, where a change is meant to change them
	HTCL_GOLDEN=write python -m pytest tests/integration/test_golden_loss.py

CONCERT := ../shared/data/concert

bench-train: $(STAMP) ## what training costs beside its arithmetic, as a table (pairs of CONCERT's log where it is there)
	python -m tests.benchmarks.bench_train $(if $(wildcard $(CONCERT)/interactions),--log $(CONCERT)/interactions)

bench-data: $(STAMP) ## what the data jobs cost, against DuckDB and bare loops, as a table (EVENTS="3e5 1e6": a quick look)
	python -m tests.benchmarks.bench_data $(if $(EVENTS),--events $(EVENTS))

CONCERT_PATHS = --set catalog.path=$(abspath $(CONCERT))/catalog.jsonl \
	--set catalog.audio_root=$(abspath $(CONCERT)) --set interactions.path=$(abspath $(CONCERT))/interactions
concert: $(STAMP) ## run the pipeline on the concert data (CONCERT=FOLDER where it does not lie beside the checkout)
	htcl run tests/integration/concert.yaml $(CONCERT_PATHS)

serve: $(STAMP) ## start a Prefect server and a worker with the three deployments
	htcl demo --no-run
	bash infra/prefect/serve.sh

chaos: $(STAMP) ## inject faults into a running pipeline and prove that nothing changes (INJECTIONS=40 SEED=1; needs root)
	python -m tests.chaos --injections $(or $(INJECTIONS),40) --seed $(or $(SEED),1)

constraints: $(STAMP) ## write the installed versions into constraints.txt
	pip freeze --exclude-editable | grep -vi '^gt[-_]all' | sed 's/+cpu//' > constraints.txt

clean: ## delete the environment, caches and workspace
	rm -rf .venv .venv-musicnn workspace .pytest_cache .mypy_cache .ruff_cache .hypothesis htcl.egg-info

.PHONY: help setup setup-hosts demo test test-fast lint format evidence ablation report-card report-card-concert tune musicnn notebook golden bench-train bench-data concert serve chaos constraints clean
