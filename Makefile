# Two targets do all the set-up: `make demo` and `make test`. `make help` lists all that have a word of their own.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := $(shell sed -n 's/^uv==//p' requirements-dev.in)
PYTEST_TWO := $(BIN)/pytest --numprocesses 2 --durations 20 --durations-min 20
# Where no Docker engine answers, root lays the bare system.
FRESH = { ((EUID)) || lab/debian-packages debootstrap; } && $(BIN)/python -m lab.fresh
LOCKED := requirements.txt requirements-dev.txt
STEPS := $(shell grep -rlI '^\#!/usr/bin/env bash' plugins/heat_upgrade/remote/scripts) $(wildcard plugins/heat_upgrade/remote/scripts/*.sh) lab/debian-packages lab/fresh/enter .ci/run \
	deploy/entrypoint deploy/initialize lab/compose/images/postgres/start $(wildcard lab/compose/machine/usr/local/sbin/*)

.DEFAULT_GOAL := demo
.PHONY: help demo stop env test test-unit test-integration test-e2e test-collect test-long test-fresh test-fresh-short test-compose docker faults lint compare bench lock setup packages clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

demo: setup ## a real rolling upgrade in the embedded lab, under traffic; leaves the UI and the cloud running
	@$(BIN)/python -m lab.scenarios.demo

stop: ## end everything that make demo, compare, bench and the tests have started
	@[ ! -x $(BIN)/python ] || $(BIN)/python -m lab stop

env: ## keys and passwords for docker-compose.yaml in .env, and a folder for the clouds' secrets
	@deploy/env

test: setup ## everything that needs no Docker; one summary at the end
	@$(MAKE) --no-print-directory lint
	@$(PYTEST_TWO)

test-unit: setup lint ## under a minute, no server
	@$(PYTEST_TWO) tests/unit

test-integration: setup ## hooks and remote steps against real servers
	@$(BIN)/pytest tests/integration

test-e2e: setup ## whole runs of the DAGs over the lab's real Heat
	@$(BIN)/pytest tests/e2e

test-collect: setup ## every test can be collected
	@$(BIN)/pytest --quiet --collect-only -m "long or not long" | tail -n 30

test-fresh: setup ## the README's commands on a bare Debian 12, as root and as another user
	@$(FRESH)

test-fresh-short: setup ## the same with the set-up, the collection of all tests, lint and unit tests alone
	@$(FRESH) --short

test-compose: docker ## docker-compose.yaml and a cloud of systemd hosts under a Docker engine
	@$(BIN)/pytest -s -m compose tests/compose

docker: setup ## a Docker engine: the one that answers, else one of the lab's own
	@docker version >/dev/null 2>&1 || lab/debian-packages docker.io docker-compose debootstrap
	@$(BIN)/python -m lab.compose engine

test-long: setup ## stories under traffic in full: three releases there and back, slow sweeps, every half-way course
	@HEAT_UPGRADE_LONG=1 $(BIN)/pytest -s -m "long or not long" tests/e2e/under_traffic tests/e2e/test_half_way.py

faults: setup ## whole runs with a fault at every task, under traffic; writes docs/faults.md
	@HEAT_UPGRADE_FAULTS=full $(BIN)/pytest -s -m "long or not long" tests/faults

lint: $(VENV)/installed ## ruff, mypy, who may import whom, shellcheck
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@PYTHONPATH=plugins $(BIN)/lint-imports --no-cache --no-logo
	@shellcheck $(STEPS)

compare: setup ## the guide's own way and this one, in the same lab under the same traffic, side by side
	@$(BIN)/python -m lab.scenarios.compare

bench: setup ## what the router costs a request; the DAG run's time beside that of a plain script with the same commands
	@$(BIN)/python -m lab.scenarios.router_bench
	@$(BIN)/python -m lab.scenarios.bench

setup: packages $(VENV)/installed ## Debian packages and the virtual environment

packages: ## Debian packages: installed by root, else those that are missing are named
	@lab/debian-packages

$(VENV)/installed: $(LOCKED)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python $(LOCKED)
	@touch $@

lock: ## write the lock files anew from the .in files
	@for name in requirements requirements-dev requirements-deploy; do \
	  $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command 'make lock' $$name.in -o $$name.txt; \
	done

clean: stop ## remove the virtual environment, the labs' state and all caches
	@rm -rf $(VENV) .state .mypy_cache .ruff_cache .pytest_cache
