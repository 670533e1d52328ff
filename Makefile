# The few commands of this project. Each installs what it lacks first (scripts/setup) and builds only what it needs.
JOBS ?= $(shell nproc)
export JOBS LISTEN CONFIG DATA OUT QUICK

.DEFAULT_GOAL := help
.PHONY: help run build check test bench clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

run:  ## serve on 127.0.0.1:8080 and send work from four users (LISTEN=127.0.0.1:8081 for another port)
	@scripts/setup run
	@scripts/build turnpike
	@scripts/run

build:  ## build build/turnpike
	@scripts/setup build
	@scripts/build turnpike

check:  ## format, static analysis (of tests, too), include directions, scripts
	@scripts/setup test
	@scripts/test check
	@scripts/tidy

test:  ## check, then every test; ends with "N passed, N failed"
	@scripts/setup test
	@scripts/test

bench:  ## measure beside BullMQ, nginx and Portkey (QUICK=1 for a short form)
	@scripts/setup bench
	@scripts/bench

clean:  ## remove what was built; data/ and out/ stay
	@rm -rf build bench/*/node_modules tests/e2e/openai_client/node_modules
