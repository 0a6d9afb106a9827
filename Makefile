# Two commands matter: `make demo` and `make test`. Both make .venv first; nothing but Python 3.11 or newer is needed.
#
#   make demo               watch two simulated cameras until Ctrl-C
#   make demo ARGS=--once   play the footage once, print a summary, exit 0 if every name is right
#   make demo ONCE=1        the same   (also: make demo -- --once; plain `make demo --once` is refused by make itself)
#   make test               the tests, in under 5 minutes      (make test ARGS="tests/unit -k tracker" for some)
#   make test-slow          the slow tests: faults of real servers, the API's fuzzing, accuracy, a fleet (10 minutes)
#   make test-fault         the fleet under faults: servers and processes killed in mid-work (15 minutes)
#   make services           PostgreSQL, Kafka and RabbitMQ for development, ready or with a reason why not
#   make services-stop      stop them
#   make compare            race the face_recognition package on the same frames (fetches it first, 100 MB)
#   make check              ruff, mypy --strict, import rules
#   make lock               renew the lock files     UPGRADE=1 to move to newest versions
#   make clean              remove what make and the tools made; data/ stays

SHELL := /bin/sh
# Where it is set, each of the many processes that a fleet and the tests start compiles everything anew: 5 s instead of 1.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOMS := api cli core deploy detect embed enrollment ingest matcher recognize sightings
PYTHON ?=
ONCE ?= $(filter --once,$(MAKECMDGOALS))

LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" --quiet $(if $(UPGRADE),--upgrade)

.PHONY: help install demo test test-slow test-fault services services-stop compare check lock clean --once

help:  ## say what can be made
	@sed -n 's/^#   //p' Makefile

install: $(STAMP)  ## make .venv

# uv installs the lock in a tenth of pip's time; where uv does not run, pip does the same work. Both check every hash.
$(STAMP): requirements-dev.lock pyproject.toml
	@set -e; \
	python=; \
	for candidate in $(PYTHON) $(if $(PYTHON),,python3 python3.14 python3.13 python3.12 python3.11); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "make: no Python 3.11 or newer found (python3 is $$(python3 -V 2>/dev/null || echo missing)); install one, or: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	rm -f $(STAMP); \
	if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "making $(VENV) with $$("$$python" -V)"; \
		"$$python" -m venv --clear $(VENV) || { echo "make: $$python can't make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	fi; \
	echo "installing the packages of requirements-dev.lock (hashes checked)"; \
	awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements-dev.lock > $(VENV)/uv.lock; \
	if $(BIN)/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r $(VENV)/uv.lock 2>/dev/null \
		&& $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-dev.lock; \
	then :; else $(BIN)/python -m pip install --quiet --prefer-binary --require-hashes -r requirements-dev.lock; fi; \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	$(BIN)/python -m compileall -q $(ROOMS); \
	touch $(STAMP)

demo: $(STAMP)  ## cameras, names, API on 127.0.0.1:8400
	@$(BIN)/sightline demo $(if $(ONCE),--once) $(ARGS)

--once:
	@:

# The programs of the servers are fetched before the tests' clocks run; a test that misses one fails and says why.
RUN_TESTS = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## the tests
	-@$(BIN)/sightline services install
	$(RUN_TESTS) --numprocesses 3 $(or $(ARGS),-m "not slow" tests)

# The fleet comes last and alone: its cameras play in real time.
test-slow: $(STAMP)  ## the slow tests
	-@$(BIN)/sightline services install
	$(RUN_TESTS) --numprocesses 2 -m "slow and not full" --ignore tests/fault/fleet tests
	$(BIN)/python -m pytest -m "slow and not full" tests/fault/fleet

# One process: the tests measure times, and each has a fleet of its own.
test-fault: $(STAMP)  ## the fleet under faults
	$(BIN)/python -m pytest -m "" $(or $(ARGS),tests/fault)

services: $(STAMP)  ## PostgreSQL, Kafka, RabbitMQ
	@$(BIN)/sightline services start $(ARGS)

services-stop: $(STAMP)
	@$(BIN)/sightline services stop $(ARGS)

# The package asks for dlib's sources, which need a compiler and ten minutes; dlib-bin of the lock is the same library, built.
compare: $(STAMP)  ## beside the face_recognition package
	$(BIN)/python -m pip install --quiet --no-deps face_recognition==1.3.0 face_recognition_models==0.3.0
	$(BIN)/sightline bench compare $(ARGS)

check: $(STAMP)  ## lint, format, types, who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# requirements.lock is what runs in production; requirements-dev.lock is the same with the tools, so that both agree on every version.
lock: $(STAMP)  ## renew the lock files
	$(BIN)/$(LOCK) --extra dev --output-file requirements-dev.lock
	$(BIN)/$(LOCK) --constraint requirements-dev.lock --output-file requirements.lock

clean:  ## remove the environment and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
