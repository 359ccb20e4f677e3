# Crossbook in short commands. `make help` lists them.
ENV   ?= .venv
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
BIN   := $(abspath $(ENV))/bin
SHARDS ?= $(CORES)
STUDY ?=
COHORT ?=
GROUPS ?=
UPGRADE ?=
TESTS ?= tests
WORKERS ?= 2
SLOW ?=
KNOWN = $(patsubst params/%.yaml,%,$(wildcard params/*/*.yaml))

export PATH := $(BIN):$(PATH)
# a cluster's shell may have a locale in which Python 3.11 takes text for ASCII
export PYTHONUTF8 := 1
# a job that asks for more memory than there is gets what there is; two that together ask for more run one by one
MEMORY_MB ?= $(shell expr $$(getconf _PHYS_PAGES) \* $$(getconf PAGESIZE) / 1048576)
SNAKEMAKE = $(BIN)/python scripts/time_left.py $(BIN)/python -m snakemake --profile profiles/local --cores $(CORES) --resources gpu=1 mem_mb=$(MEMORY_MB)
SETUP := bash scripts/setup.sh$(if $(filter-out .venv,$(ENV)), --into $(ENV))

.DEFAULT_GOAL := help
.PHONY: help setup quarto doctor lab test book pdf check hospital run keep data lock lint format benchmarks clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup:  ## make .venv from requirements.lock (every other command does this by itself)
	@$(SETUP)

quarto:  ## find or install Quarto, and fail where that cannot be done
	@$(SETUP) --require-quarto

doctor:  ## what this machine has and lacks, each with the next step (exit code 0: a demo can run)
	@if [ -x "$(BIN)/python" ]; then $(BIN)/python -m lib.doctor; else python3 -m lib.doctor; fi

lab: setup  ## open the notebooks in JupyterLab
	$(BIN)/python -m jupyterlab --notebook-dir=.$(if $(filter 0,$(shell id -u)), --allow-root)

test: setup  ## run the tests (TESTS=tests/inputs for some of them, SLOW=1 for the slow ones, WORKERS=0 in one process)
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(if $(SLOW),-m slow) $(TESTS)

book:  ## run demo and null of every study and render _book/index.html
	@$(SETUP) --quarto
	@[ -d data/raw/openseadragon/package ] || $(BIN)/python -m lib.data openseadragon || true
	@$(BIN)/python -m lib.params params/*/demo.yaml params/*/null.yaml
	$(SNAKEMAKE) --quiet host rules -- book
	$(BIN)/python -m lib.book

pdf: setup  ## print the results chapters of _book/ to _book/crossbook.pdf, with a Chromium
	@$(BIN)/python -m lib.paper

run:  ## run one cohort of one study: STUDY=spacrd COHORT=her2st (SHARDS=8 cuts the long stages)
	@if [ -z "$(STUDY)" ] || [ -z "$(COHORT)" ]; then \
		echo "make run needs a study and a cohort, as in: make run STUDY=spacrd COHORT=her2st" >&2; exit 2; fi
	@if [ ! -f "params/$(STUDY)/$(COHORT).yaml" ]; then \
		echo "there is no params/$(STUDY)/$(COHORT).yaml; there are: $(KNOWN)" >&2; exit 2; fi
	@$(SETUP)
	@$(BIN)/python -m lib.params params/$(STUDY)/$(COHORT).yaml
	$(SNAKEMAKE) --quiet host --config shards=$(SHARDS) -- $(STUDY)_$(COHORT)

keep: setup  ## commit-ready copy of the small results of a real cohort, into data/results: STUDY=spacrd COHORT=her2st
	@$(BIN)/python -m lib.kept $(STUDY) $(COHORT)

check: setup  ## read a cohort's files, train nothing, say what is odd or missing: STUDY=stroke (COHORT=patients)
	@$(BIN)/python -m lib.check $(STUDY) $(COHORT)

hospital: setup  ## write a made-up hospital to try `make check` on, into data/raw/patients: STUDY=stroke
	@$(BIN)/python -m lib.check $(STUDY) --hospital

data:  ## fetch and verify a cohort's raw files: COHORT=her2st (GROUPS=pictures for optional ones)
	@if [ -z "$(COHORT)" ]; then \
		echo "make data needs a cohort or a source, as in: make data COHORT=her2st" >&2; exit 2; fi
	@$(SETUP)
	@$(BIN)/python -m lib.data $(COHORT) $(if $(GROUPS),--groups $(GROUPS))

lock: setup  ## derive requirements.lock and environment.yml from pyproject.toml (UPGRADE=all or names)
	@$(BIN)/python scripts/lock.py $(if $(UPGRADE),--upgrade $(UPGRADE))
	@$(BIN)/python scripts/derive_environment.py

lint: setup  ## check style and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## put style and imports right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: setup  ## measure speed and memory side by side
	@$(BIN)/python -m benchmarks

clean:  ## remove results and the rendered book; raw data and .venv stay
	rm -rf results _book _build .snakemake
