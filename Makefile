PYTHON ?= python3
BIN = .venv/bin

.PHONY: setup test
setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[local,dev]"
	touch $@

test: setup
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium fonts-dejavu-core)
	$(BIN)/python -m pytest -q --doctest-modules workbench/claude.py workbench/history.py workbench/models.py \
		workbench/pricing.py workbench/turns.py workbench/wording.py tests
