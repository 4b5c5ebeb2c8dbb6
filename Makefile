# Everything that people do with a checkout. `make` alone lists it.
SHELL := /bin/sh
CARGO ?= cargo
# Programs of this checkout's own first (.ci/setup); where rustup puts cargo last, for shells not started anew since.
export PATH := $(CURDIR)/.work/bin:$(PATH):$(HOME)/.cargo/bin

SECONDS ?= 30
KEEP ?=
ROUNDS ?= 3
PARTS ?=
SOAK_SECONDS ?= 600
QUEUE_SECONDS ?= $(SOAK_SECONDS)
COMPAT ?=
FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help setup build test check docs demo demo-stop bench bench-check bench-count bench-micro compat soak regress agreement fuzz image-check clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## Install what building and testing needs and this machine lacks
	@.ci/setup test

build: ## Build the pgweir binary as it is shipped: target/release/pgweir
	@.ci/setup build
	PGWEIR_COMMIT=$$(git rev-parse --short=12 HEAD 2>/dev/null) $(CARGO) build --release --package pgweir

test: setup ## Run every test, end to end against a PostgreSQL of their own
	@.ci/test

check: ## What has to hold before a change lands: tests, format, lints, documentation
	@.ci/run

demo: ## A workflow engine's traffic and a report (SECONDS=30; KEEP=1 leaves it running)
	@.ci/setup demo
	$(CARGO) build --release --package pgweir
	$(CARGO) build --package integration-tests --bin demo
	@target/debug/demo --pgweir target/release/pgweir --seconds $(SECONDS) $(if $(KEEP),--keep)

demo-stop: ## End what `make demo KEEP=1` left running
	@target/debug/demo --stop

bench: ## Cost of a query: direct, pgweir, PgBouncer, a relay; into docs/benchmarks.md (ROUNDS=3)
	@.ci/setup bench
	$(CARGO) build --release --package pgweir
	$(CARGO) build --package integration-tests --bin bench
	@target/debug/bench --pgweir target/release/pgweir --rounds $(ROUNDS) --write docs/benchmarks.md

bench-check: ## The same, and fails if a promised figure is missed by more than the noise (PARTS=loads,idle,bulk,own,admin,cache)
	@.ci/setup bench
	$(CARGO) build --release --package pgweir
	$(CARGO) build --package integration-tests --bin bench
	@target/debug/bench --pgweir target/release/pgweir --rounds $(ROUNDS) --check $(if $(PARTS),--parts $(PARTS))

bench-count: ## Instructions per query that rules and limits add, counted by valgrind
	@.ci/setup count
	$(CARGO) build --release --package pgweir
	@.ci/instructions target/release/pgweir

bench-micro: ## Cost of the parts by themselves: framer, pipeline, lexer, memo, detector, ledger
	$(CARGO) bench --package wire --bench framer --bench pipeline
	$(CARGO) bench --package policy --bench lexer --bench memo --bench detector
	$(CARGO) bench --package pgweir --bench ledger

compat: ## The drivers' own test suites: direct, session, transaction; into docs/compatibility.md (COMPAT=arguments)
	@.ci/setup test
	$(CARGO) build --package pgweir
	python3 integration-tests/compat/compat.py --write docs/compatibility.md $(COMPAT)

docs: ## Print docs/config.md, config.schema.json, console.md, logs.md and pgweir.1 anew from the code
	$(CARGO) build --package pgweir
	target/debug/pgweir config-reference > docs/config.md
	target/debug/pgweir config-schema > docs/config.schema.json
	target/debug/pgweir console-reference > docs/console.md
	target/debug/pgweir log-reference > docs/logs.md
	target/debug/pgweir man > docs/pgweir.1

soak: ## Storms, queue workers, the demo's traffic for long; every promise has to hold (SOAK_SECONDS=600, QUEUE_SECONDS)
	$(CARGO) build --bins
	PGWEIR_TEST_CANCELS=100000 PGWEIR_TEST_RESTARTS=20 $(CARGO) test --package integration-tests --test suite -- \
		--nocapture --test-threads=1 kill_no_innocent_query refused_connection nobody_is_refused
	PGWEIR_HUNT_SEED=$${PGWEIR_HUNT_SEED:-0x$$(od -An -N7 -tx1 /dev/urandom | tr -d " ")} PGWEIR_HUNT_SECONDS=$(SOAK_SECONDS) $(CARGO) test --package integration-tests --test suite -- --nocapture hunt::nothing
	PGWEIR_CACHE_SEED=$${PGWEIR_CACHE_SEED:-0x$$(od -An -N7 -tx1 /dev/urandom | tr -d " ")} PGWEIR_CACHE_SECONDS=$(SOAK_SECONDS) $(CARGO) test --package integration-tests --test suite -- --nocapture cache::versions cache::canaries::no_row cache::within::random cache::instances cache::differential cache::strict cache::faults
	PGWEIR_CACHE_READS=1000000 $(CARGO) test --package integration-tests --test suite -- --nocapture cache::versions
	$(CARGO) test --release --package policy --lib -- --ignored nor_does_any_in_larger_worlds
	QUEUE_SECONDS=$(QUEUE_SECONDS) $(CARGO) test --package integration-tests --test suite -- --nocapture queue_workers
	$(CARGO) test --package integration-tests --test timing -- --ignored --nocapture a_thousand_statements
	@$(MAKE) --no-print-directory demo SECONDS=$(SOAK_SECONDS)

regress: ## PostgreSQL's own regression tests, directly and through both modes: the same output, byte by byte
	@.ci/regress

agreement: ## How far fingerprints agree with pg_stat_statements, measured on PostgreSQL's regression SQL
	@.ci/agreement

fuzz: ## Run each fuzz target (needs cargo-fuzz; FUZZ_SECONDS=600)
	@.ci/fuzz $(FUZZ_SECONDS)

image-check: ## Build the Dockerfile without a daemon and run what came out against a PostgreSQL
	@.ci/image-check

clean: ## Remove what was built and set up
	$(CARGO) clean
	rm -rf .work
