# What people and continuous integration call. The work is done by scripts/; without a target, this lists them.

.PHONY: help setup demo test prove bench doc clean-demo

help: ## this list
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## install what the system lacks (C compiler, libclang, OpenMPI, MPICH); all others do this first
	@scripts/setup.sh

demo: ## kill a rank of a tsunami on 4 MPI ranks, resume it, compare to the bit (MPI=mpich: with MPICH)
	@scripts/setup.sh --without-tests
	@scripts/demo.sh

test: setup ## every test: without MPI, with OpenMPI, with MPICH
	@scripts/test.sh

prove: setup ## every test with its long counts: more seeds, more kills, more crash points
	@PITON_TEST_LONG=1 scripts/test.sh --show-output

bench: ## measure a whole job (BENCH="--ranks 2 --mib 256 --json" is the default; MPI=mpich: with MPICH)
	@scripts/setup.sh --without-tests
	@scripts/bench.sh

doc: ## the documentation of the library, in target/doc
	cargo doc --no-deps --workspace --features ndarray

clean-demo: ## remove what `make demo` left behind
	rm -rf piton-demo
