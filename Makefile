# `make serve` and `make test` install everything into .venv, from locked and hashed requirements.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVE := $(VENV)/.serve
DEV := $(VENV)/.dev
AUDIT := $(VENV)/.audit

# Wherever nothing compiled is to be kept by default, each process that starts would compile anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve test fuzz model mutants bench bench-full compare overload chaos clients lint format audit sbom lock clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

serve: $(SERVE) ## Run the service on an embedded PostgreSQL, on http://localhost:3000
	@$(BIN)/ticketing serve $(ARGS)

test: $(DEV) ## Run all tests, with coverage
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --cov --cov-report=term $(ARGS)

fuzz: $(DEV) ## Send thousands of generated requests as every role, for ten minutes, and check what they changed
	@$(BIN)/python -m tests.fuzz $(ARGS)

model: $(DEV) ## Compare the decisions about places with a simple model in 50,000 generated steps, in a minute
	@$(BIN)/python -m tests.decisions $(ARGS)

mutants: $(DEV) ## Change the pure code of the sale in a thousand ways, and look which changes no test notices
	@nice -n 10 $(BIN)/mutmut run --max-children 2 $(ARGS) > /dev/null; $(BIN)/python -m tests.mutants

bench: $(SERVE) ## Measure the service beside other ways to book, in under 5 minutes (needs wrk)
	@$(BIN)/python -m benchmarks.run --quick

bench-full: $(SERVE) ## Measure every scenario, in half an hour (needs wrk)
	@$(BIN)/python -m benchmarks.run --full

compare: $(SERVE) ## Measure the checkout beside an earlier commit, in 5 minutes: make compare BASE=REV (needs wrk)
	@test -n "$(BASE)" || { echo "Say which commit: make compare BASE=REV"; exit 2; }
	@$(BIN)/python -m benchmarks.compare --base "$(BASE)" $(ARGS)

overload: $(SERVE) ## Offer four times the load that the service can serve, and check what it keeps doing, in 3 minutes
	@$(BIN)/python -m benchmarks.overload $(ARGS)

chaos: $(SERVE) ## Kill, cut and freeze processes and connections while people book, for a quarter of an hour, and check every response
	@$(BIN)/python -m chaos $(ARGS)

clients: $(DEV) ## Generate clients from the OpenAPI document, compile them, and have each book (needs Java and Node)
	@$(BIN)/python -m clients $(ARGS)

lint: $(DEV) ## Check style, types and imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src alembic
	@if command -v promtool >/dev/null; then \
		promtool check config deploy/prometheus.yml && promtool test rules deploy/alerts_test.yml; \
	else echo "deploy/ is not checked: that needs promtool, of Debian's package prometheus"; fi

format: $(DEV) ## Format the code and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

audit: $(DEV) $(AUDIT) ## Look for known vulnerabilities in the dependencies and in the code (needs the network)
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src alembic
	@for name in runtime build dev audit; do \
		$(BIN)/pip-audit --disable-pip --require-hashes --strict --progress-spinner off \
			--timeout 30 --requirement requirements/$$name.txt \
			|| { echo "requirements/$$name.txt: vulnerable, or not checked: see above"; exit 1; }; \
	done

sbom: $(AUDIT) ## Write the list of all components to dist/sbom.json (CycloneDX)
	@mkdir -p dist
	@$(PYTHON) -m venv --clear --without-pip $(VENV)-sbom
	@$(BIN)/pip --python $(VENV)-sbom install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/runtime.txt
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sbom.json $(VENV)-sbom/bin/python
	@rm -rf $(VENV)-sbom
	@echo "Wrote dist/sbom.json"

lock: ## Resolve the dependencies again
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	for name in runtime build dev audit; do \
		case $$name in \
			runtime) from="pyproject.toml" ;; \
			build) from="--group build" ;; \
			dev) from="--group build --group dev pyproject.toml --constraint requirements/runtime.txt --constraint requirements/build.txt" ;; \
			audit) from="--group audit --constraint requirements/dev.txt" ;; \
		esac; \
		$(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-strip-extras \
			--custom-compile-command "make lock" --output-file requirements/$$name.txt $$from || exit 1; \
	done

clean: ## Remove built and cached files; data and logs stay
	rm -rf $(VENV) $(VENV)-lock $(VENV)-sbom dist build mutants .coverage .coverage.* .hypothesis .mypy_cache \
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

# Beside what is there: pinned to the same versions where they share one.
$(AUDIT): $(DEV) requirements/audit.txt
	@echo "Installing into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
	@touch $@
