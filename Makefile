# Everything a newcomer or CI runs. Each target sets up what it needs.

PYTHON ?= python3
VENV ?= .venv
# A CPU build where the index has one; set TORCH= to take what pip chooses, or another version for your GPU.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup quickstart browser test fuzz check fix bench clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/python -m pip install -q $(TORCH))
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $(READY)

quickstart: setup
	$(BIN)/compressit apply recipes/quickstart.yaml --overwrite

# The tests of report.html need a real browser; where there is none and none can be installed, they are skipped.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; \
	  for update in true "apt-get update -qq"; do \
	    $$update >/dev/null 2>&1; apt-get install -qq -y chromium >/dev/null 2>&1 && exit 0; \
	  done; \
	fi; \
	echo "no chromium here, and none could be installed: the tests of report.html in a browser are skipped"

test: setup browser
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Looks for recipes, manifests, headers and settings that break what reads them, for as long as it is told.
fuzz: export FUZZ_SECONDS ?= 300
fuzz: setup
	$(BIN)/python -m pytest -n 0 tests/hostile/test_fuzz.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cog --check README.md

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/cog -r README.md

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -s -o python_files='bench_*.py'

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
