# make book | make test | make bench        (make help lists the rest)
#
# A fresh machine needs Python >= 3.11, make and git; everything else comes
# from requirements.lock into .venv.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# The same bytes on every run: no hash randomisation, one date in every file.
export PYTHONHASHSEED    := 0
export SOURCE_DATE_EPOCH := 1767225600
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export JUPYTER_PLATFORM_DIRS := 1

.DEFAULT_GOAL := help
.PHONY: book test bench references data profiles stand-in hubs exactness scaling ties lock wheel clean help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r t d; \
	  do printf '  make %-12s %s\n' "$$t" "$$d"; done

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "flexlib needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

book: $(READY) ## run every chapter from scratch and build the pages; warnings are errors
	rm -rf _build/html _build/.doctrees _build/jupyter_execute _build/chapter-times.txt book/results
	$(BIN)/jupyter-book build . --all -n -W --keep-going
	@cat _build/chapter-times.txt
	@echo
	@echo "Open _build/html/index.html"

test: $(READY) ## linters, types, import order, unit tests, reference notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadscope

bench: $(READY) ## measure times and sizes
	$(BIN)/python -m benchmarks

references: $(READY) ## execute the chapters into tests/notebooks, which the tests compare with
	$(BIN)/python tests/make_references.py

data: $(READY) ## refresh the checksums of the data package
	$(BIN)/python tests/make_datapackage.py

profiles: $(READY) ## make the profiles again from the package simbench
	$(BIN)/python tests/make_profiles.py
	$(BIN)/python tests/make_datapackage.py

stand-in: $(READY) ## make the grid of six SimBench grids again
	$(BIN)/python tests/make_stand_in.py
	$(BIN)/python tests/make_datapackage.py

hubs: $(READY) ## draw the ten thousand feeders of hubs and the SimBench instance again
	$(BIN)/python tests/make_hubs.py
	$(BIN)/python tests/make_datapackage.py

exactness: $(READY) ## measure again how far each reformulation of the bilevel programme gets
	$(BIN)/python tests/make_exactness.py
	$(BIN)/python tests/make_datapackage.py

scaling: $(READY) ## measure again what pricing of 3 to 30,000 hubs costs and reaches
	$(BIN)/python tests/make_scaling.py
	$(BIN)/python tests/make_datapackage.py

ties: $(READY) ## evaluate again the tariffs that have no ties, on hubs that are known and unknown
	$(BIN)/python tests/make_ties.py
	$(BIN)/python tests/make_datapackage.py

lock: ## resolve pyproject.toml again into requirements.lock
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	  $(PYTHON) -m venv "$$tmp" && "$$tmp/bin/pip" install --quiet uv && \
	  "$$tmp/bin/uv" pip compile pyproject.toml --all-extras --universal --generate-hashes \
	    --no-header --no-emit-index-url --no-emit-find-links --quiet \
	    --python-version 3.11 -o requirements.lock

wheel: $(READY) ## build the library and its data as one wheel in dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

clean: ## remove what was built; the environment stays
	rm -rf _build dist book/results tests/notebooks/results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find flexlib tests book benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
