# The only task runner. Everything it needs beyond python3 it brings into this checkout: uv into .uv/,
# Daybreak, its tools and two PostgreSQL distributions into .venv/, checkov into .checkov/. `make help` lists the targets.

UV_VERSION := 0.13.8
UV := .uv/bin/uv
PYTHON ?= python3
ARGS ?=
# Many tests wait for servers: two at a time keep two cores busy.
IN_PARALLEL := -n 2 --dist worksteal

export UV_PROJECT_ENVIRONMENT := .venv
# A Python of this machine where one is new enough; only otherwise one that uv would download.
export UV_PYTHON_PREFERENCE := system
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help rehearse rehearse-aws test test-all infra-test lint format docs bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

rehearse: .venv/rehearse.stamp ## migrate, cut over and roll back two servers made for it (ARGS="--scale 2 --json")
	.venv/bin/daybreak rehearse $(ARGS)

rehearse-aws: .venv/dev.stamp ## with AWS side and DMS, on emulated AWS; needs terraform (ARGS="--engine native")
	.venv/bin/daybreak rehearse --aws $(ARGS)

test: .venv/dev.stamp .checkov/stamp ## every test that is not marked `full` (ARGS="-k sqlite")
	.venv/bin/pytest -m "not full" $(IN_PARALLEL) $(ARGS)

test-all: .venv/dev.stamp .checkov/stamp ## every test: all pairs of versions, all kill points, the stack's life
	.venv/bin/pytest $(IN_PARALLEL) $(ARGS)

infra-test: .venv/dev.stamp .checkov/stamp ## the AWS side: its tests, applied and destroyed on emulators (needs terraform)
	.venv/bin/pytest tests/infra $(IN_PARALLEL) $(ARGS)

lint: .venv/dev.stamp ## style, types, arrows between packages, documentation
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m daybreak.diagram --check
	NO_MKDOCS_2_WARNING=true .venv/bin/mkdocs build --quiet --strict

format: .venv/dev.stamp ## mend what can be mended by itself
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

docs: .venv/dev.stamp ## serve the documentation on http://127.0.0.1:8000
	NO_MKDOCS_2_WARNING=true .venv/bin/mkdocs serve

bench: .venv/rehearse.stamp ## the rehearsal at ten times the scale, its measurements as JSON
	.venv/bin/daybreak rehearse --scale 10 --json $(ARGS)

clean: ## remove everything that was built, environments included
	rm -rf .venv .checkov .uv site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/dev.stamp: pyproject.toml uv.lock $(UV)
	$(UV) sync --locked --extra lab --extra infra --extra aws --group aws --group docs
	@touch $@

# checkov pins old versions of what others need, so it lives apart.
.checkov/stamp: pyproject.toml uv.lock $(UV)
	UV_PROJECT_ENVIRONMENT=.checkov $(UV) sync --locked --only-group checkov
	@touch $@

# Without the tools for developing; --inexact leaves them where they are already.
.venv/rehearse.stamp: pyproject.toml uv.lock $(UV)
	$(UV) sync --locked --inexact --no-default-groups --extra lab
	@touch $@

# Debian's python3 comes without ensurepip (package python3-venv) and often without pip: either will do.
$(UV):
	@if $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  $(PYTHON) -m venv --clear .uv && .uv/bin/pip --disable-pip-version-check install --quiet uv==$(UV_VERSION); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m pip --disable-pip-version-check install --quiet --target .uv uv==$(UV_VERSION); \
	else \
	  echo "make: $(PYTHON) has neither venv (with ensurepip) nor pip, so uv cannot be installed." >&2; \
	  echo "make: install the package python3-venv or python3-pip, or name another: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi
