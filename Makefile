# Everything starts here: `make demo` and `make test` work from a bare clone on a machine that has
# Python 3.11 or later, gcc and make. The environment is .venv; stamps in it make repeated calls quick.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Any Python can run the bootstrap; it picks one with C headers. `make PYTHON=python3.12 demo` decides.
export PYTHON
BOOT := $(or $(PYTHON),$(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done),python3)
VENV := .venv
PY := $(VENV)/bin/python
# -qq: errors only. Versions come from constraints.txt and nowhere else.
INSTALL := $(PY) -m pip install -qq --disable-pip-version-check --root-user-action=ignore -c constraints.txt
COMPILED := $(wildcard csrc/*.c csrc/*.h src/rankd/kernels/*.pyx src/rankd/kernels/*.pxd protos/rankd/v1/*.proto)
PYTEST := $(PY) -m pytest
PYTEST_ARGS ?=
TEST_PROCESSES ?= 2

.PHONY: help demo test setup setup-dev lint format test-fast test-c count-instructions fuzz-exact fuzz-wire real bench-path overload bench-growth bench-signals flamegraph bench-forest bench-explain bench-kernels wheel-test lock wire-lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: setup ## a simulated shop: loaded, a model trained, lists ranked over gRPC (under two minutes)
	@$(VENV)/bin/rankd demo

test: lint ## everything CI runs: lint, C tests, Python tests, wheel test
	@$(PYTEST) -n $(TEST_PROCESSES) --dist loadfile --ignore=tests/load_tests --durations=15 $(PYTEST_ARGS)
	@$(PYTEST) tests/load_tests $(PYTEST_ARGS)  # these count what a machine does: alone
	@$(MAKE) count-instructions
	@$(MAKE) wheel-test

setup: $(VENV)/.built ## .venv with rankd compiled and installed in place

setup-dev: $(VENV)/.built $(VENV)/.dev ## the same with the tools that test and check it

lint: setup-dev ## ruff check, ruff format --check, mypy strict
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: setup-dev ## rewrite the Python sources in the house format
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

test-fast: setup-dev ## the Python and C tests without those marked slow
	@$(PYTEST) -q -m 'not slow' $(PYTEST_ARGS)

test-c: ## the C tests and short fuzzing under sanitizers, without Python (RANKD_FUZZ_SCALE lengthens it)
	@$(BOOT) tools/test_c.py $(TEST_C_ARGS)

count-instructions: ## instructions of the kernels on fixed inputs beside those recorded (needs gcc and valgrind)
	@$(BOOT) tools/instruction_counts.py $(COUNT_ARGS)

fuzz-exact: setup-dev ## 10,000,000 fuzzed scores against LightGBM's, CatBoost's and XGBoost's own (some ten minutes)
	@$(PY) tests/models/fuzz_exact.py $(FUZZ_ARGS)

fuzz-wire: setup-dev ## 1,000,000 fuzzed requests, in C and by protobuf (some ten minutes)
	@RANKD_FUZZ_SCALE=100 $(PYTEST) -q -s tests/kernels/test_wire_fuzz.py $(FUZZ_ARGS)

real: setup-dev ## rank real catalogues and judgments (data: RANKD_DATA, default ../shared/data)
	@$(PY) tests/real/run.py

bench-path: setup-dev $(VENV)/.bench ## CPU per Rank beside a bare echo and FastAPI, lookups, memory, restart
	@$(PY) load_tests/bench_path.py $(BENCH_ARGS)

overload: setup-dev $(VENV)/.bench ## 2, 5 and 10 times capacity; restarts, kills and reloads under load
	@$(PY) load_tests/bench_overload.py $(BENCH_ARGS)

bench-growth: setup-dev $(VENV)/.bench ## how a call's CPU grows with candidates, signals, trees and workers, as plots
	@$(PY) load_tests/bench_growth.py $(BENCH_ARGS)

bench-signals: setup-dev $(VENV)/.bench ## the store beside SQLite and LMDB, and signals shared through Redis
	@$(PY) load_tests/bench_signals.py $(BENCH_ARGS)

flamegraph: setup-dev $(VENV)/.bench ## where a Rank's time goes, as pictures
	@PATH=$(VENV)/bin:$$PATH $(PY) load_tests/flamegraph.py $(BENCH_ARGS)

bench-kernels: setup ## the kernels beside the forest, and the NumPy and Python they stand in for
	@$(PY) load_tests/bench_kernels.py

bench-forest: $(VENV)/.built $(VENV)/.bench $(VENV)/.peers ## forest scoring beside the libraries and compilers of the same models
	@$(PY) load_tests/bench_forest.py $(BENCH_ARGS)

bench-explain: $(VENV)/.built $(VENV)/.bench ## explanations of scores beside LightGBM's and, where it is installed, shap's
	@$(PY) load_tests/bench_explain.py $(BENCH_ARGS)

wheel-test: setup-dev ## build sdist and wheel, install it elsewhere, test that
	@$(PY) tools/wheel_test.py

lock: setup-dev ## resolve constraints.txt anew (needs python3.11, 3.12 and 3.13)
	@$(PY) tools/lock.py

wire-lock: setup ## record additions to the contracts in protos/wire.lock and csrc/rk_wire_fields.h
	@$(PY) tools/wire_lock.py --update
	@$(PY) tools/wire_fields.py --update

clean: ## remove .venv and everything generated
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f src/rankd/v1/*_pb2*.py src/rankd/v1/*_pb2*.pyi src/rankd/kernels/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.pip: tools/bootstrap.py
	@$(BOOT) tools/bootstrap.py $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.pip pyproject.toml constraints.txt
	@echo "rankd: installing dependencies"
	@$(PY) tools/requirements.py build run train > $(VENV)/run.txt
	@$(INSTALL) -r $(VENV)/run.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "rankd: installing test and lint tools"
	@$(PY) tools/requirements.py parquet test house serving-peers > $(VENV)/dev.txt
	@$(INSTALL) -r $(VENV)/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.run
	@echo "rankd: installing plotting"
	@$(PY) tools/requirements.py bench > $(VENV)/bench.txt
	@$(INSTALL) -r $(VENV)/bench.txt
	@touch $@

# One by one: a peer that won't install here is named, again by the benchmark, and the others are measured.
$(VENV)/.peers: $(VENV)/.run
	@echo "rankd: installing peers to measure against"
	@missing=0; for peer in $$($(PY) tools/requirements.py peers); do \
		$(INSTALL) "$$peer" || { echo "rankd: $$peer does not install here"; missing=1; }; \
	done; [ $$missing = 1 ] || touch $@

$(VENV)/.built: $(VENV)/.run setup.py $(COMPILED)
	@echo "rankd: generating contracts, compiling kernels"
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
