# `make serve` and `make test` set up all they need in .venv, from locked and hashed requirements.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVE := $(VENV)/.serve
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help serve test bench bench-full lint format lock clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

serve: $(SERVE) ## Run the service on an embedded PostgreSQL, on http://localhost:3000
	@$(BIN)/ticketing serve $(ARGS)

test: $(DEV) ## Run all the tests, with coverage
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --cov --cov-report=term $(ARGS)

bench: $(SERVE) ## Measure the service beside other ways to book, in under 5 minutes (needs wrk)
	@$(BIN)/python -m benchmarks.run --quick

bench-full: $(SERVE) ## Measure every scenario, for most of an hour (needs wrk)
	@$(BIN)/python -m benchmarks.run --full

lint: $(DEV) ## Check style, types and imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	@if command -v promtool >/dev/null; then \
		promtool check config deploy/prometheus.yml && promtool test rules deploy/alerts_test.yml; \
	else echo "deploy/ is not checked: that needs promtool, of Debian's package prometheus"; fi

format: $(DEV) ## Format the code and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: ## Resolve the dependencies anew
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	for name in runtime build dev; do \
		case $$name in \
			runtime) from="pyproject.toml" ;; \
			build) from="--group build" ;; \
			dev) from="--group build --group dev pyproject.toml --constraint requirements/runtime.txt --constraint requirements/build.txt" ;; \
		esac; \
		$(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
			--custom-compile-command "make lock" --output-file requirements/$$name.txt $$from || exit 1; \
	done

clean: ## Remove what was built and cached; data and logs stay
	rm -rf $(VENV) $(VENV)-lock dist build .coverage .coverage.* .hypothesis .mypy_cache \
		.pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("ticketing needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Hash mode checks every package; the project itself is then installed without any more.
define install
	@echo "Installing into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endef

$(SERVE): $(VENV)/.made requirements/runtime.txt requirements/build.txt pyproject.toml
	$(call install,requirements/runtime.txt -r requirements/build.txt)

$(DEV): $(VENV)/.made requirements/dev.txt pyproject.toml
	$(call install,requirements/dev.txt)
	@touch $(SERVE)
