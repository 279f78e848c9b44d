# make app      open the page with the sample library on http://127.0.0.1:7860
# make test     run the tests; ARGS="-m slow" runs those that train, drive a browser or kill programs
# make lint     run ruff, mypy, import-linter, and TypeScript on the page's scripts
# make texts    bring the catalogues of the page's texts up to date (app/languages)
# make install  only create .venv               make clean    remove .venv, var and build outputs
#
# Variables: PYTHON (an interpreter, 3.11 or later), HOST, PORT, LIBRARY (folder of the library),
# MEDIA (what is indexed into it), ARGS (passed on to the page or to pytest).

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 7860
LIBRARY ?= var/samples
MEDIA ?= samples/media
ARGS ?=
# What checks the types of the page's scripts; it comes from npm, whose client is among the lint tools.
TYPESCRIPT := 7.0.2
# A process for each core and one more; tests of a file stay together, because they share fixtures.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help app install test lint texts clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

# The page reads the words in pictures itself, once it is open.
app: $(VENV)/.installed
	@mkdir -p "$(dir $(LIBRARY))"
	@$(BIN)/python -m indexer.ingest "$(MEDIA)" --library "$(LIBRARY)" --no-ocr || [ $$? -eq 1 ]
	@$(BIN)/python -m app --library "$(LIBRARY)" --host "$(HOST)" --port "$(PORT)" --open $(ARGS)

install: $(VENV)/.installed

# Bytecode is kept, whatever the environment says: tests start many processes.
test: $(VENV)/.installed-test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

lint: $(VENV)/.installed-lint $(VENV)/.installed-typescript-$(TYPESCRIPT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/node $(BIN)/tsc --project jsconfig.json

# Without lines of files, which would change with every edit.
texts: $(VENV)/.installed
	@mkdir -p var
	$(BIN)/pybabel --quiet extract --mapping-file pyproject.toml --keywords "t tn:1,2 N_" --no-wrap \
		--add-location file --project "RzenEmbed Search" --output var/texts.pot app
	@for catalogue in app/languages/*.po; do \
		$(BIN)/pybabel --quiet update --input-file var/texts.pot --output-file $$catalogue \
			--locale $$(basename $$catalogue .po) --no-wrap --no-fuzzy-matching --ignore-obsolete \
			--ignore-pot-creation-date || exit 1; \
	done

clean:
	rm -rf $(VENV) var build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# A stamp is written after pip has finished, and is outdated when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml requirements.lock $(BIN)/python
	@echo "Installing the page's dependencies into $(VENV) (about a minute, 1 GB on disk)"
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.installed-test $(VENV)/.installed-lint: $(VENV)/.installed-%: $(VENV)/.installed
	@echo "Installing the $* tools into $(VENV)"
	@$(PIP) --editable ".[$*]"
	@touch $@

# Within .venv, so that nothing is left beside it.
$(VENV)/.installed-typescript-$(TYPESCRIPT): | $(VENV)/.installed-lint
	@echo "Installing TypeScript $(TYPESCRIPT) into $(VENV)"
	@$(BIN)/npm install --global --prefix $(VENV) --ignore-scripts --no-audit --no-fund \
	    --no-update-notifier --fetch-retries 1 --loglevel error typescript@$(TYPESCRIPT) >/dev/null || { \
	    echo "TypeScript $(TYPESCRIPT) could not be installed: lint needs it once from an npm registry." >&2; \
	    echo "Connect to the internet, or name a mirror: npm_config_registry=https://… make lint" >&2; \
	    exit 1; \
	}
	@touch $@

# Without prerequisites: an existing environment is used as it is.
$(BIN)/python:
	@set -e; enough='import sys; sys.exit(sys.version_info < (3, 11))'; found=; \
	for candidate in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14 python; do \
	    if "$$candidate" -c "$$enough" >/dev/null 2>&1; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Python 3.11 or later is needed and was not found. Install it (Debian, Ubuntu:" >&2; \
	    echo "apt install python3 python3-venv; macOS: brew install python@3.11), or name an" >&2; \
	    echo "interpreter: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$found" --version); this is done once."; \
	if ! "$$found" -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$found cannot create a virtual environment (Debian, Ubuntu: apt install python3-venv)." >&2; \
	    exit 1; \
	fi
