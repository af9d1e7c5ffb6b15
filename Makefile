# Short names for frequent tasks. CMake builds (see CMakePresets.json). Requires GNU make.
BUILD := build
JOBS ?= $(shell nproc)
MINUTES ?= 5
PREFIX ?= /usr/local
CLANG_FORMAT ?= $(or $(shell command -v clang-format-14),clang-format)

.DEFAULT_GOAL := help
.PHONY: help deps python build test netlab demo demo-torch experiments stress chaos asan tsan fuzz mutations docs bench format tidy commits install clean

help: ## show this list
	@echo "make <target>, where the targets are:"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## install missing Debian packages (as root, or with sudo)
	@cmake/install-debian-packages.sh

build: ## build the library and the tools into build/
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS)

python: ## make the virtual environment in build/ that builds and tests the Python package
	@bindings/python/venv.sh $(BUILD)/venv

test: deps python ## install missing packages, build, and run all tests
	@$(MAKE) --no-print-directory build
	ctest --preset release --parallel $(JOBS) $(CTEST)

netlab: deps ## test the emulated network itself, as root and on an idle machine: its rates and delays are timed
	@$(MAKE) --no-print-directory build
	ctest --preset netlab

demo: deps ## train a model over four processes, kill one, start another, and plot the run in build/demo
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS) --target pccl-master diloco
	python3 examples/diloco/demo.py --build $(BUILD)

demo-torch: deps python ## train a small GPT with PyTorch and compare with one process; DEMO="--fsdp" for islands
	@cmake/install-debian-packages.sh cmake/debian-packages-demo-torch.txt
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS) --target pccl-master pccl-python
	$(BUILD)/venv/bin/python examples/diloco/demo_torch.py --build $(BUILD) $(DEMO)

experiments: deps ## train with every method under many conditions, and write tables and plots to docs/training; under 30 minutes, as root
	@$(MAKE) --no-print-directory build
	python3 examples/diloco/experiments.py --build $(BUILD) --again

stress: build ## run 30 000 simulations, restart the master 100 times, then kill, stop and replace peers for MINUTES (5)
	$(BUILD)/bin/pccl-sim --seeds 10001..12000
	PCCL_RESTARTS=100 $(BUILD)/bin/integration_restart_test --gtest_filter='*AtAnyTime*'
	$(BUILD)/bin/pccl-churn --minutes $(MINUTES)

chaos: build ## inject random faults of processes, master and network for MINUTES (5) on emulated hosts, as root; plots build/chaos.svg
	python3 tests/stress/chaos/chaos.py --build $(BUILD) --minutes $(MINUTES) --svg $(BUILD)/chaos.svg

asan: ## build and test with the address and undefined-behaviour sanitizers; 50 simulations of each profile, a minute of churn
	cmake --preset asan
	cmake --build --preset asan --parallel $(JOBS)
	ctest --preset asan --parallel $(JOBS)

tsan: ## build and test with the thread sanitizer; 10 simulations of each profile, a minute of churn
	cmake --preset tsan
	cmake --build --preset tsan --parallel $(JOBS)
	ctest --preset tsan --parallel $(JOBS)

fuzz: deps ## build the fuzzers with clang and run each for MINUTES (5) from its corpus; failing inputs are in build-fuzz/found
	@cmake/install-debian-packages.sh cmake/debian-packages-fuzz.txt
	cmake --preset fuzz
	cmake --build --preset fuzz --parallel $(JOBS)
	tests/fuzz/run.sh build-fuzz $(MINUTES)

mutations: deps ## apply each patch of tests/sim/mutations and tests/sim/trainers/mutations, and check that the simulator detects it
	python3 tests/sim/mutations.py

docs: deps python ## build the documentation in build/docs/site; fails on a warning or a broken link
	@cmake/install-debian-packages.sh cmake/debian-packages-docs.txt
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS) --target pccl-master pccl-perf pccl-python
	@docs/venv.sh $(BUILD)/docs-venv
	$(BUILD)/docs-venv/bin/python docs/build.py --build $(BUILD)

bench: ## run the micro-benchmarks, and compare all-reduce with the limit of TCP and other libraries; BENCH="--full --gloo" for all
	cmake --preset release -DPCCL_BUILD_BENCH=ON
	cmake --build --preset release --parallel $(JOBS)
	@set -e; for bench in $(BUILD)/bin/*_bench; do echo "== $$bench"; $$bench; done
	python3 bench/bench.py --build $(BUILD) $(BENCH)
	python3 bench/python_overhead.py --build $(BUILD)

format: ## format all C and C++ files
	python3 tools/dev/format.py --write

tidy: build ## run clang-tidy
	git ls-files -z 'src/*.cc' | xargs -0 -n 1 -P $(JOBS) clang-tidy --quiet -p $(BUILD)

commits: ## check the messages of commits that are not in origin/main or main
	python3 tools/dev/check_commits.py

install: build ## install into PREFIX (/usr/local)
	cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove all build folders
	rm -rf build build-wheel build-dev build-asan build-tsan build-fuzz build-mutations
