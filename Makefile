# make demo, make test: each does all the set-up on a bare Debian machine with Python 3.11 and make.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11 /usr/local/bin/python3.11) python3)
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest
WORKERS ?= 2
TOOLS := mosquitto mosquitto-clients curl procps chromium

.PHONY: help demo test lint chaos mutants lock clean tools
help:
	@echo "make demo   run the pipeline with synthetic patients until Ctrl-C"
	@echo "make test   run the tests"
	@echo "make lint   ruff and mypy"
	@echo "make chaos  100 rounds of kill -9"
	@echo "make mutants change the code here and there and see which changes no test notices"
	@echo "make lock   refresh the hashed lock files"

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vitalgate needs Python 3.11 or newer (found $$($(PYTHON) -V)): set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python has no venv: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The tests talk to the endpoint with mosquitto's clients and to a real broker, look at the page with Chromium,
# and run the pages' commands, which use curl and pkill.
tools:
	@export PATH="$$PATH:/usr/sbin"; command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null && command -v curl >/dev/null && command -v pkill >/dev/null && command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(TOOLS) >/dev/null; \
	  else echo "the tests need: sudo apt-get install $(TOOLS)"; exit 1; fi; }

demo: $(VENV)/.installed
	$(BIN)/vitalgate up --demo --data-dir vitalgate-data/demo

test: $(VENV)/.installed tools
	$(PYTEST) -n $(WORKERS) --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

chaos: $(VENV)/.installed
	VITALGATE_CHAOS_ROUNDS=100 $(PYTEST) tests/deploy/test_chaos.py

MUTANTS ?= --count 8 --seed 1
mutants: $(VENV)/.installed
	$(BIN)/python -m tests.mutants $(MUTANTS)

lock:
	uv pip compile pyproject.toml --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 -q -o requirements.lock
	uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 -q -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist build
