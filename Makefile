# The README's commands, and nothing clever. CARGO_TARGET_DIR is honoured.

BIN := $(or $(CARGO_TARGET_DIR),target)/release
CONFIG := configs/smollm2.toml
# What perplexity is measured on: text that is newer than any model here.
PAGES := docs/architecture.md docs/api.md docs/slurm.md docs/from-triton.md docs/config.md
# An instruction set to do with, avx2 or scalar, rather than all that the processor has.
ISA :=

.PHONY: serve test test-setup soak lint bench bench-quick bench-docs bench-setup setup build model

title = @printf '\n== %s\n\n' '$(1)'

serve: build
	@$(BIN)/shardrun serve $(CONFIG)

test: test-setup lint build model
	SHARDRUN_TEST_MODEL="$$($(BIN)/shardrun fetch $(CONFIG))" cargo test --release --locked --workspace

test-setup:
	@./setup.sh test

# The engine's randomised tests, a hundred times as many cases as in `make test`.
soak: setup
	SHARDRUN_SOAK=100 cargo test --release --locked --package shardrun-engine --lib

lint: setup
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --document-private-items --quiet

# Half an hour: kernels and parts alone, the engine beside itself, and the whole beside its peers.
bench: bench-setup build model
	$(call title,kernels and passes of the CPU backend)
	cargo bench --locked --package shardrun-cpu --bench kernels
	cargo bench --locked --package shardrun-cpu --bench passes
	$(call title,choosing a token)
	cargo bench --locked --package shardrun-engine --bench sampling
	$(call title,the scheduler without a device)
	cargo bench --locked --package shardrun-engine --bench scheduler
	$(call title,the engine beside itself)
	python3 tests/bench/engine.py $(BIN)/shardrun $(CONFIG) --json $(BIN)/engine.json
	$(call title,beside the peers)
	cargo build --release --locked --package shardrun-tests --bin perplexity
	python3 tests/bench/compare.py $(BIN)/shardrun $(CONFIG) $(ISA:%=--isa %) --json $(BIN)/bench.json \
		--quality $(BIN)/perplexity $(PAGES)

# Minutes, once the peers are there: the whole beside its peers in fewer rounds.
bench-quick: bench-setup build model
	python3 tests/bench/compare.py $(BIN)/shardrun $(CONFIG) --quick $(ISA:%=--isa %) --json $(BIN)/bench.json

# What the last of the two has measured, as tables and a picture of docs/performance.md.
bench-docs:
	python3 tests/bench/report.py $(BIN)/bench.json --docs docs/performance.md

bench-setup:
	@./setup.sh bench
	@python3 tests/bench/install.py $(ISA:%=--isa %)

build: setup
	cargo build --release --locked --package shardrun --package shardrun-spawn --package shardrun-worker

model: build
	@$(BIN)/shardrun fetch $(CONFIG) >/dev/null

setup:
	@./setup.sh
