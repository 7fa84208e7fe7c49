# Every target does the set-up it needs; `make help` lists them.

ENGINE ?= cpu
ARGS ?=
PART ?=
VERIFY_AREAS := run novelty evol store student api operations

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Many tests wait: for processes, for locks, for a server. Two at once fill the time. A file stays in
# one process; both use the same engine, which is leased. In the order of their folders the files that
# take longest come first, so that neither waits long for the other's last one.
SPREAD := -n 2 --dist loadfile --no-loadscope-reorder

# Of the caller's Python, none of which is to reach ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Without its bytecode every process compiles torch and the rest again, 30 s of it.
unexport PYTHONDONTWRITEBYTECODE

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format bench lock clean verify $(VERIFY_AREAS:%=verify-%)

help:  ## list the targets
	@echo 'make TARGET'
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1\t\2/p' Makefile | expand -t 18
	@echo '  verify-AREA     the full numbers of one area: $(VERIFY_AREAS) (PART=word: only tests so named)'
	@echo
	@echo 'ENGINE=gpu: set up with the GPU engine. PYTHON=/path/to/python3.11: set up with that one.'
	@echo 'ARGS=...: further arguments of pytest, of the demo, of lock (--upgrade) or of a benchmark.'

setup:  ## make .venv with evoloom in it, and unpack the bundled model
	@python=$$(sh scripts/find-python.sh) && exec "$$python" -E -s scripts/setup.py --engine $(ENGINE)

demo: setup  ## set up, and grow 12 instructions from the bundled seeds with the bundled model
	$(BIN)/evoloom run self-instruct --target 12 --prefect $(ARGS)

test: setup  ## set up, and run the tests
	@sh scripts/install-system-packages.sh
	$(PYTEST) $(SPREAD) $(ARGS)

$(VERIFY_AREAS:%=verify-%): verify-%: setup
	@sh scripts/install-system-packages.sh
	$(PYTEST) -m verify_$* $(if $(PART),-k '$(PART)') $(ARGS)

verify: $(VERIFY_AREAS:%=verify-%)  ## the full numbers of every area (hours)

lint: setup  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## apply ruff's formatting and safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## run the benchmarks (PART=name: only that one)
	@for file in benchmarks/$(or $(PART),*).py; do \
		case "$$file" in */_*) continue;; esac; \
		test -e "$$file" || { echo "there is no benchmark $$file"; exit 1; }; \
		echo "== $$file"; \
		$(BIN)/python -m "benchmarks.$$(basename "$$file" .py)" $(ARGS) || exit 1; \
	done

lock: setup  ## make the lock files again (ARGS=--upgrade: with the newest versions that fit)
	$(BIN)/python -E -s scripts/lock.py $(ARGS)

clean:  ## remove .venv, caches and builds; stores and their run directories stay
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
