# The commands of this repository. `make` alone lists them. Everything real is in tests/*.sh and in cargo.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-stop test test-machines crash-matrix lint fmt bench soak simulate fuzz proto-baseline
.PHONY: check-clean

# The ports of the demo: six client ports from BASE_PORT on, their bus ports 10000 above, and the coordinator's.
BASE_PORT ?= 7000
COORDINATOR_PORT ?= 7700
# KEEP=1 leaves the demo's cluster up.
KEEP ?=
# The bench: the biggest cluster it forms (6 and 30 are always there; 60 is the other that is meant), and how often.
SIZE ?= 30
RUNS ?= 3
# Only a part of it: formation, rebuild or supervision.
ONLY ?=
# The soak: what its faults are drawn from (the time, unless one is given; it is printed), and for how long.
SEED ?= $(shell date +%s)
MINUTES ?= 10
# The simulation: how many nights, from that seed on.
SEEDS ?= 1000
# The crash matrix: on which servers (real or fake), which scenario, and which cases: all that have that in their name.
SERVER ?= real
SCENARIO ?=
CASES ?=
# The fuzzing: which target (all, unless one is named; tests/fuzz/README.md), and for how long each.
TARGET ?=
SECONDS ?= 60

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing from the system's packages, without starting a redis-server
	@tests/setup.sh

# The dev profile: the whole workspace compiles in less than half the time of a release build, and the demo waits for
# redis-server and not for Muster.
build: setup
	@echo "building (the first time takes a minute or two) ..."
	@cargo build --workspace --bins --quiet

demo: build ## Form a cluster on two pretended servers, kill a master, clean up (KEEP=1 leaves it up)
	@KEEP="$(KEEP)" BASE_PORT="$(BASE_PORT)" COORDINATOR_PORT="$(COORDINATOR_PORT)" tests/demo.sh

demo-stop: ## Stop what `make demo KEEP=1` left up
	@tests/demo.sh stop

# First everything that needs no other process, side by side; then the tests that start real servers, one at a time,
# because they measure time and share two cores. `--all-targets` gives both the same features, so that nothing is
# compiled twice, and builds the daemons that the harness starts.
test: setup ## All tests
	cargo build --workspace --all-targets
	cargo test --workspace --lib --bin soak
	cargo test --workspace --doc
	cargo test --workspace --test '*' -- --test-threads=1

# The tests are built by `make test`, and not run by it.
test-machines: setup ## Whole servers booted under their own systemd, as root
	@tests/setup.sh machines
	@tests/machines.sh
	cargo build --workspace --all-targets
	cargo test --workspace --test machines -- --ignored --test-threads=1

crash-matrix: setup ## Whoever dies at whichever point, all of them (SERVER=fake SCENARIO=rebuild CASES=agent.wipe)
	cargo build --workspace --all-targets
	MUSTER_CRASH_SERVER="$(SERVER)" MUSTER_CRASH_SCENARIO="$(SCENARIO)" MUSTER_CRASH_CASES="$(CASES)" \
	  cargo test --workspace --test matrix -- --ignored --exact every_case_on_the_server_that_is_asked_for --nocapture

lint: ## Format, clippy, shellcheck, and one TLS provider in the tree at most
	@tests/setup.sh lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	shellcheck tests/*.sh .ci/run
	@# rustls panics at run time when two providers are linked in; ring is ours.
	@if cargo tree --workspace --edges normal,build --invert aws-lc-rs 2>/dev/null | grep .; then \
	  echo "lint: aws-lc-rs is in the tree (above): switch off the default features that bring it" >&2; exit 1; \
	fi

fmt: ## Format all Rust code
	cargo fmt --all

bench: setup ## Muster by figures: forming, rebuilding, bringing instances back (SIZE=60 RUNS=3 ONLY=rebuild)
	cargo build --workspace --bins --release
	target/release/bench --size "$(SIZE)" --runs "$(RUNS)" $(if $(ONLY),--only "$(ONLY)") --json target/bench.json

simulate: ## Nights of a simulated fleet under faults, judged (SEEDS=2000 SEED=17)
	cargo build --package muster-tests --bin simulate
	target/debug/simulate --seed "$(SEED)" --seeds "$(SEEDS)"

soak: setup ## Random kills and freezes under writing clients, and a verdict on every write (SEED=1 MINUTES=10)
	cargo build --workspace --bins
	target/debug/soak --seed "$(SEED)" --minutes "$(MINUTES)"

fuzz: ## Every parser of outside input, driven by coverage (TARGET=spec: that one; SECONDS=600: for so long)
	@tests/fuzz.sh "$(SECONDS)" "$(TARGET)"

proto-baseline: ## Take the protocol as it is now as what must stay; refuses if something was broken
	cargo test --workspace --test compat -- --ignored --exact take_the_protocol_as_it_is_for_the_baseline

check-clean: ## Nothing was left behind by tests or demo: no process, no directory, no file
	@tests/check-clean.sh
