# Each target does all the set-up it needs. PYTHON and VENV can be overridden: make test PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
RESEEDS ?= 4
BIN = $(VENV)/bin
READY = $(VENV)/.installed
QUICK = $(wildcard $(patsubst harness/%/__init__.py,tests/%,$(wildcard harness/*/__init__.py))) tests/planted tests/project

.PHONY: hypotheses language-models mutants reseed findings quick test check lint bench reliability versions code-mutants gpu package fixtures schema clean

hypotheses: $(READY)        ## judge every claim; the report goes to reports/
	$(BIN)/pytest hypotheses/ -m "not minutes" --harness-controls --harness-html reports/index.html

language-models: $(READY)   ## fetch SmolLM2-135M-Instruct (93 MB) and judge every claim about it, with controls
	$(BIN)/harness fetch smollm2_135m
	$(BIN)/pytest hypotheses/smollm2 --harness-controls --harness-report reports/language-models

mutants: $(READY)           ## change every supported claim a little: does it hold all the same? And what does none name?
	$(BIN)/pytest hypotheses/ --harness-mutate --harness-coverage --harness-report reports/mutants

reseed: $(READY)            ## ask every claim about a sample again on RESEEDS fresh seeds: which are lucky on theirs?
	$(BIN)/pytest hypotheses/ --harness-reseed $(RESEEDS) --harness-report reports/reseed

findings: $(READY)          ## which claims hold of every training run? Written to docs/findings.md
	$(BIN)/pytest hypotheses/universal --harness-report reports/findings || [ $$? -eq 1 ]  # a refuted claim is a finding
	$(BIN)/harness findings reports/findings.json --out docs/findings.md

quick: $(READY)             ## the tests of every room that take no time: to be run after each edit
	$(BIN)/pytest $(QUICK) -n 2 -m "not slow"

test: $(READY)              ## the harness's own tests; one that hangs ends in a traceback after 20 minutes
	$(BIN)/pytest tests/ -n 2 -o faulthandler_timeout=1200 -o faulthandler_exit_on_timeout=true

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test hypotheses ## what CI runs

bench: $(READY)             ## ours against its baselines: ratios, taken in one run
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/pytest tests/benchmarks -o python_files='bench_*.py' --benchmark-disable-gc --benchmark-columns=median,iqr,rounds

reliability: $(READY)       ## try all that could lose something or fool somebody; the figures go to docs/reliability.md
	$(BIN)/pytest tests/reliability -n 2 --reliability-out docs/reliability.md

gpu: $(READY)               ## the tests that need a GPU, and an error where there is none
	$(BIN)/python -c "import torch; torch.zeros(1, device='cuda')"
	$(BIN)/pytest tests/ -m gpu

package: $(READY)           ## wheel and sdist, checked, then installed into a stranger's project beside other plugins
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,package]'
	rm -rf build dist
	$(BIN)/pyproject-build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/venv
	build/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls dist/*.whl)[neighbours]"
	$(BIN)/pytest tests/packaging --packaged-python build/venv/bin/python

versions: $(READY)          ## the oldest and newest versions that pyproject.toml allows: minutes; read by `make reliability`
	$(BIN)/python tests/reliability/versions.py

code-mutants: $(READY)      ## change the code a little: do the tests notice? Many minutes; read by `make reliability`
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,mutation]'
	$(BIN)/python tests/reliability/code_mutants.py

fixtures: $(READY)          ## train the quick fixtures again and say whether the same weights come out
	$(BIN)/harness reproduce 'quick_*'

schema: $(READY)            ## regenerate the JSON schema of spec files, and the reference of their keys
	$(BIN)/harness schema > harness/hypothesis.schema.json
	$(BIN)/harness schema --markdown > docs/spec-reference.md

# -c matters: an unpinned torch brings gigabytes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,viz,lm]'
	touch $(READY)

clean:
	rm -rf $(VENV) reports build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
