# Every target does its own set-up and may be run again: only what changed is rebuilt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

BUILD := $(or $(GENCV_FAST_BUILD_DIR),build)

export GENCV_FAST_DEV ?= ON
export GENCV_FAST_CUDA ?= AUTO
export GENCV_FAST_CUDA_ARCHS ?= 80;90
# Everything is built here: a test that is skipped for anything but a missing device fails.
export GENCV_FAST_STRICT_SKIPS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup build test test-full bench bench-full lint format abi sanitize arm64 gpu clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/installed: requirements/dev.txt scripts/prepare_system.sh
	./scripts/prepare_system.sh $(PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -r requirements/dev.txt
	touch $@

setup: $(VENV)/installed ## Make .venv with pinned versions

# The editable install runs CMake once; after that CMake alone knows what is out of date.
$(VENV)/editable: $(VENV)/installed setup.py pyproject.toml
	. ./scripts/env.sh && $(BIN)/pip install -q --no-build-isolation --no-deps -e .
	touch $@

build: $(VENV)/editable ## Build the kernels and install the package in place
	. ./scripts/env.sh && $(BIN)/cmake -S . -B $(BUILD) -DGENCV_FAST_PYTHON="$$PWD/$(BIN)/python" -DGENCV_FAST_DEV=$(GENCV_FAST_DEV) \
	  -DGENCV_FAST_CUDA=$(GENCV_FAST_CUDA) -DGENCV_FAST_CUDA_ARCHS="$(GENCV_FAST_CUDA_ARCHS)" >/dev/null
	$(BIN)/cmake --build $(BUILD) -j $$(nproc)
	$(BIN)/cmake --install $(BUILD) --prefix gencv_fast >/dev/null

test: build lint ## Lint, tests, ABI check, sanitizers on tiny cases, Arm (what CI runs)
	$(BIN)/pytest -n 2
	$(MAKE) abi sanitize arm64

test-full: export GENCV_FAST_CUDA_ARCHS = 80;90;100;120
test-full: build lint ## The same with every slow case, for every GPU architecture
	$(BIN)/pytest -n 2 -m "full or not full"
	$(BIN)/pytest tests/sanitize -m "full or not full"
	$(MAKE) abi arm64

bench: build ## Quick benchmark suite against the peers, with a report (under 5 minutes)
	$(BIN)/gencv-fast bench --suite quick

bench-full: build ## Every size and peer
	$(BIN)/gencv-fast bench --suite full

lint: $(VENV)/installed ## ruff, clang-format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror
	$(BIN)/mypy

format: $(VENV)/installed ## Rewrite the sources as lint wants them
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs $(BIN)/clang-format -i

$(VENV)-abi/installed: requirements/abi.txt
	test -x $(VENV)-abi/bin/python || $(PYTHON) -m venv $(VENV)-abi
	$(VENV)-abi/bin/pip install -q -r requirements/abi.txt
	touch $@

abi: build $(VENV)-abi/installed ## One built CPU library in two versions of torch
	$(BIN)/python tests/abi/run_samples.py
	PYTHONPATH=. $(VENV)-abi/bin/python tests/abi/run_samples.py

sanitize: build ## ASan, UBSan and TSan on the kernels
	$(BIN)/cmake --build $(BUILD) -j $$(nproc) --target gencv_fast_kernels_cpu_asan gencv_fast_kernels_cpu_tsan
	$(BIN)/pytest tests/sanitize

arm64: $(VENV)/installed ## Cross-compile the kernels for 64-bit Arm and run their C++ tests under QEMU
	./scripts/prepare_system.sh $(PYTHON) aarch64-linux-gnu-g++:g++-aarch64-linux-gnu qemu-aarch64:qemu-user
	$(BIN)/cmake -S . -B $(BUILD)/arm64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DGENCV_FAST_KERNELS_ONLY=ON >/dev/null
	$(BIN)/cmake --build $(BUILD)/arm64 -j $$(nproc) --target gencv_fast_kernels_cpu cpp_tests
	for test in $(BUILD)/arm64/cpp_tests/plain/*; do qemu-aarch64 $$test || exit 1; done

gpu: build ## The tests and benchmarks that need a GPU
	$(BIN)/python scripts/require_gpu.py
	$(BIN)/pytest -m gpu
	$(BIN)/gencv-fast bench --suite quick --device cuda

clean: ## Remove what was built
	rm -rf $(BUILD) gencv_fast/_lib gencv_fast/_native*.so gencv_fast/include gencv_fast/cmake $(VENV)/editable
