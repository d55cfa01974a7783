# make demo · make test · make fuzz · make lint · make bench · make e2e · make clean
# Arguments go through ARGS: make demo ARGS=--once, make test ARGS="-k masking -x"

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
.DEFAULT_GOAL := help
JOBS := $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
HOT := gateway/ostiary_gateway/compiled.txt
HOT_SOURCES := $(shell sed -n 's|^\(ostiary_gateway[a-z_.]*\).*|\1|p' $(HOT) | sed 's|\.|/|g; s|^|gateway/|; s|$$|.py|')
HOT_SOURCES += $(wildcard $(HOT_SOURCES:.py=.pxd))
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock"
.PHONY: help .venv compile demo test fuzz sanitize lint format bench chart e2e kind generate lock clean

help:
	@echo "make demo     a small shop behind Ostiary, and an agent that misbehaves (ARGS=--once: play it and exit)"
	@echo "make test     unit and integration tests, on embedded servers"
	@echo "make fuzz     the fuzz targets for longer than in make test (ARGS=\"--seconds 600 sessions\")"
	@echo "make sanitize the compiled modules under AddressSanitizer (Linux, gcc)"
	@echo "make compile  compile the hot modules (test and bench do it themselves; the demo runs without)"
	@echo "make lint     ruff, mypy --strict, import contracts, generated files"
	@echo "make bench    speed, side by side with a direct connection"
	@echo "make chart    tests of the Helm chart (needs helm)"
	@echo "make e2e      tests that need a Kubernetes cluster: that of KUBECONFIG"
	@echo "make kind     a cluster in Docker with Ostiary and the example in it (needs docker, kind, kubectl, helm)"
	@echo "make clean    remove what was built"

.venv: .venv/ready

.venv/ready: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Ostiary needs Python 3.11 or newer; $(PYTHON) is older, or not there. Try: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing dependencies into .venv (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@OSTIARY_NO_COMPILER=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

compile: .venv/compiled

# Without a C compiler the same modules run as plain Python, and this is tried again the next time.
.venv/compiled: .venv/ready setup.py $(HOT) $(HOT_SOURCES)
	@echo "Compiling the hot modules …"
	@$(BIN)/python setup.py --quiet build_ext --inplace --parallel $(JOBS)
	@if find gateway/ostiary_gateway -name '*.so' | grep -q .; then touch $@; fi

demo: .venv
	@$(BIN)/ostiary demo $(ARGS)

test: compile
	$(BIN)/python -m pytest -m "not cluster" $(ARGS)

fuzz: compile
	$(BIN)/python tests/fuzz/run.py $(ARGS)

sanitize: .venv
	$(BIN)/python tests/fuzz/sanitize.py $(ARGS)

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m ostiary_api.generate --check crds
	$(BIN)/python -m ostiary_policy.facts_reference --check
	$(BIN)/python -m ostiary_policy.answer_schema --check
	$(BIN)/python charts/values_reference.py --check
	$(BIN)/python -m ostiary_operator.conditions_reference --check

format: .venv
	$(BIN)/ruff check --fix .

generate: .venv
	$(BIN)/python -m ostiary_api.generate crds
	$(BIN)/python -m ostiary_policy.facts_reference
	$(BIN)/python -m ostiary_policy.answer_schema
	$(BIN)/python charts/values_reference.py
	$(BIN)/python -m ostiary_operator.conditions_reference

bench: compile
	$(BIN)/python benchmarks/run.py $(ARGS)

chart: .venv
	$(BIN)/python -m pytest tests/chart $(ARGS)

e2e: compile
	$(BIN)/python -m pytest -m cluster $(ARGS)

kind:
	@scripts/cluster kind images install example

lock:
	@test -x $(BIN)/uv || $(MAKE) .venv
	$(LOCK) --output-file requirements.lock --extra s3 pyproject.toml
	$(LOCK) --output-file requirements-operator.lock --extra operator pyproject.toml
	$(LOCK) --output-file requirements-build.lock --group build
	$(LOCK) --output-file requirements-dev.lock --extra demo --extra operator --extra s3 --group dev pyproject.toml

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find gateway/ostiary_gateway -name '*.so' -delete
	find $(wildcard crds gateway operator tests benchmarks) -name __pycache__ -prune -exec rm -rf {} +
