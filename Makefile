# The verbs of a checkout. `make run` and `make test` do all the set-up they need.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
OBJECTS := receiver/kernel/objects
CLANG ?= clang
STRIP ?= llvm-strip
BPF_FLAGS := -O2 -g -target bpf -mcpu=v2 -Wall -Werror -I bpf
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_OBJECTS := $(foreach arch,x86_64 aarch64,$(patsubst bpf/%.bpf.c,$(OBJECTS)/%.$(arch).bpf.o,$(BPF_SOURCES)))
SECONDS := 1200
SEED := 1
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help setup bpf run test integration soak bench bench-tripwire check format lock wheel image container clean

help: ## This text
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: .make/system bpf $(VENV)/ready ## Install what is missing, compile the BPF objects, make the environment

.make/system: tools/setup.sh
	@mkdir -p .make
	@tools/setup.sh run
	@touch $@

$(VENV)/ready: requirements/dev.txt pyproject.toml
	@tools/setup.sh python
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

bpf: .make/system $(OBJECTS)/SHA256SUMS ## Compile the BPF objects for every architecture

$(OBJECTS)/%.x86_64.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) | .make/system
	@mkdir -p $(OBJECTS)
	$(CLANG) $(BPF_FLAGS) -D__TARGET_ARCH_x86 -c $< -o $@
	@$(STRIP) -g $@

$(OBJECTS)/%.aarch64.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) | .make/system
	@mkdir -p $(OBJECTS)
	$(CLANG) $(BPF_FLAGS) -D__TARGET_ARCH_arm64 -c $< -o $@
	@$(STRIP) -g $@

# The allowlist is checked here, over every compiled object, and again at load.
$(OBJECTS)/SHA256SUMS: $(BPF_OBJECTS) receiver/kernel/allowlist.py
	@$(PYTHON) -m receiver.kernel.allowlist $(BPF_OBJECTS)
	@cd $(OBJECTS) && sha256sum *.bpf.o > SHA256SUMS

run: setup ## Show the TCP flows of this machine as they happen (root)
	$(AS_ROOT) $(VENV)/bin/weir run --set receivers.ebpf.scope=host

test: $(VENV)/ready ## The tests that need no kernel, no root and no network
	$(PY) -m pytest

integration: setup ## The tests on this kernel, with real sockets and a real Collector (root)
	@tools/setup.sh integration
	$(AS_ROOT) $(PY) -m pytest integration -m 'not container'

soak: setup ## SECONDS=1200 of load to a Collector that is killed at random, SEED=1 (root): nothing lost, flat memory
	@tools/setup.sh integration
	$(AS_ROOT) $(PY) -m integration.soak --seconds $(SECONDS) --seed $(SEED)

bench: setup ## Figures and ratios of this machine
	$(AS_ROOT) $(PY) -m bench

bench-tripwire: setup ## A coarse check that nothing became slow, as ratios against a loop in the same run
	$(AS_ROOT) $(PY) -m bench --tripwire

check: $(VENV)/ready ## Lint, format, types, layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/ready ## Let the formatter have its way
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lock: ## Renew the lock files
	tools/lock.sh

wheel: setup ## A wheel that carries the compiled objects
	$(PY) -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

image: ## The container image, by buildah
	@tools/setup.sh container
	tools/image.sh

container: $(VENV)/ready ## The image as a sidecar of another container (root, after `make image`)
	@tools/setup.sh container
	$(AS_ROOT) $(PY) -m pytest integration/test_container.py

clean: ## Remove what the verbs above made
	rm -rf $(VENV) .make $(OBJECTS) dist build
