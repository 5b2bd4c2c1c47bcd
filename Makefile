# make demo, make test: each does all the set-up on a bare Debian machine with Python 3.11 and make.
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest
WORKERS ?= 2
TOOLS := mosquitto mosquitto-clients curl procps chromium

.PHONY: help demo test lint chaos mutants lock wheel clean tools
help:
	@echo "make demo   run the pipeline with synthetic patients until Ctrl-C"
	@echo "make test   run the tests"
	@echo "make lint   ruff and mypy"
	@echo "make chaos  100 rounds of kill -9"
	@echo "make mutants change the code here and there and see which changes no test notices"
	@echo "make wheel  build the wheel into dist/"
	@echo "make lock   bring the hashed lock files up to date with pyproject.toml; LOCK_FLAGS=--upgrade takes the newest releases"

# The demo waits only for what vitalgate needs to run; everything else needs the tools too.
$(VENV)/.runs: requirements.lock requirements-build.lock pyproject.toml install.sh
	@./install.sh $(VENV) . requirements.lock requirements-build.lock
	@touch $@

$(VENV)/.installed: requirements-dev.lock pyproject.toml install.sh
	@./install.sh $(VENV) . requirements-dev.lock
	@touch $@ $(VENV)/.runs

# The tests talk to the endpoint with mosquitto's clients and to a real broker, look at the page with Chromium,
# and run the pages' commands, which use curl and pkill.
tools:
	@export PATH="$$PATH:/usr/sbin"; command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null && command -v curl >/dev/null && command -v pkill >/dev/null && command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(TOOLS) >/dev/null; \
	  else echo "the tests need: sudo apt-get install $(TOOLS)"; exit 1; fi; }

demo: $(VENV)/.runs
	$(BIN)/vitalgate up --demo --data-dir vitalgate-data/demo

test: $(VENV)/.installed tools
	$(PYTEST) -n $(WORKERS) --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

chaos: $(VENV)/.installed
	VITALGATE_CHAOS_ROUNDS=100 $(PYTEST) tests/deploy/test_chaos.py

MUTANTS ?= --count 3 --minutes 12
mutants: $(VENV)/.installed
	$(BIN)/python -m tests.mutants $(MUTANTS)

wheel: $(VENV)/.installed
	$(BIN)/python -m hatchling build -t wheel -d dist

# Universal locks; the two smaller ones are parts of the first.
LOCK_FLAGS :=
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: pipx install uv"; exit 1; }
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra dev -o requirements-dev.lock
	$(COMPILE) -c requirements-dev.lock pyproject.toml -o requirements.lock
	printf 'hatchling\neditables\n' | $(COMPILE) -c requirements-dev.lock - -o requirements-build.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist build
