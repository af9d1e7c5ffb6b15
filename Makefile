# Short names for what is done often; CMake does the building (see CMakePresets.json). GNU make.
BUILD := build
JOBS ?= $(shell nproc)
MINUTES ?= 5
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help deps python build test netlab demo demo-torch experiments stress chaos asan tsan fuzz mutations docs bench format tidy commits install clean

help: ## show this list
	@echo "make <target>, where the targets are:"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## install the Debian packages that are missing (as root, or with sudo)
	@cmake/install-debian-packages.sh

build: ## build the library and the tools into build/
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS)

python: ## make a virtual environment in build/ in which the Python package is built and tested
	@bindings/python/venv.sh $(BUILD)/venv

test: deps python ## install what is missing, build, and run all tests
	@$(MAKE) --no-print-directory build
	ctest --preset release --parallel $(JOBS) $(CTEST)

netlab: deps ## test the wide-area lab itself, as root: its rates and delays are timed, so on a quiet machine
	@$(MAKE) --no-print-directory build
	ctest --preset netlab

demo: deps ## train a model over four processes, kill one, start another, and plot the run in build/demo
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS) --target pccl-master diloco
	python3 examples/diloco/demo.py --build $(BUILD)

demo-torch: deps python ## as demo, with PyTorch: a small GPT, compared with one process alone; DEMO="--fsdp" for islands
	@cmake/install-debian-packages.sh cmake/debian-packages-demo-torch.txt
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS) --target pccl-master pccl-python
	$(BUILD)/venv/bin/python examples/diloco/demo_torch.py --build $(BUILD) $(DEMO)

experiments: deps ## train by every method under many conditions, and write tables and plots of it into docs/; under 30 minutes, as root
	@$(MAKE) --no-print-directory build
	python3 examples/diloco/experiments.py --build $(BUILD) --again

stress: build ## 30 000 simulated runs, 100 restarts of the master, then MINUTES (5) of peers killed, stopped and replaced
	$(BUILD)/bin/pccl-sim --seeds 10001..12000
	PCCL_RESTARTS=100 $(BUILD)/bin/integration_restart_test --gtest_filter='*AtAnyTime*'
	$(BUILD)/bin/pccl-churn --minutes $(MINUTES)

chaos: build ## as root: all faults at random, of processes, master and network, for MINUTES (5) on emulated hosts; plots the run in build/chaos.svg
	python3 tests/stress/chaos/chaos.py --build $(BUILD) --minutes $(MINUTES) --svg $(BUILD)/chaos.svg

asan: ## build with the address and undefined-behaviour sanitizers, and test; 50 simulated runs of each profile, churn for a minute
	cmake --preset asan
	cmake --build --preset asan --parallel $(JOBS)
	ctest --preset asan --parallel $(JOBS)

tsan: ## build with the thread sanitizer, and test; 10 simulated runs of each profile, churn for a minute
	cmake --preset tsan
	cmake --build --preset tsan --parallel $(JOBS)
	ctest --preset tsan --parallel $(JOBS)

fuzz: deps ## build the fuzzers with clang and run each for MINUTES (5) on top of its corpus; what fails is in build-fuzz/found
	@cmake/install-debian-packages.sh cmake/debian-packages-fuzz.txt
	cmake --preset fuzz
	cmake --build --preset fuzz --parallel $(JOBS)
	tests/fuzz/run.sh build-fuzz $(MINUTES)

mutations: deps ## break the protocol on purpose in twelve ways and the trainers in eight, and see that the simulator notices each
	python3 tests/sim/mutations.py

docs: deps python ## build the documentation's site into build/docs/site; fails on a warning or a broken link
	@cmake/install-debian-packages.sh cmake/debian-packages-docs.txt
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS) --target pccl-master pccl-perf pccl-python
	@docs/venv.sh $(BUILD)/docs-venv
	$(BUILD)/docs-venv/bin/python docs/build.py --build $(BUILD)

bench: ## run the micro-benchmarks, and measure all-reduce against TCP's limit and others; BENCH="--full --gloo" for all
	cmake --preset release -DPCCL_BUILD_BENCH=ON
	cmake --build --preset release --parallel $(JOBS)
	@set -e; for bench in $(BUILD)/bin/*_bench; do echo "== $$bench"; $$bench; done
	python3 bench/bench.py --build $(BUILD) $(BENCH)
	python3 bench/python_overhead.py --build $(BUILD)

format: ## format all C and C++ files
	python3 tools/dev/format.py --write

tidy: build ## look for mistakes with clang-tidy
	git ls-files -z 'src/*.cc' | xargs -0 -n 1 -P $(JOBS) clang-tidy --quiet -p $(BUILD)

commits: ## check the messages of the commits that origin/main or main does not have yet
	python3 tools/dev/check_commits.py

install: build ## install into PREFIX (/usr/local)
	cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove what was built
	rm -rf build build-wheel build-dev build-asan build-tsan build-fuzz build-mutations
