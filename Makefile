# The README's commands, and nothing clever. CARGO_TARGET_DIR is honoured.

BIN := $(or $(CARGO_TARGET_DIR),target)/release
CONFIG := configs/smollm2.toml
# The peer that `make bench` compares with: llama.cpp, built on this machine.
PEER := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/shardrun/peer

.PHONY: serve test lint bench setup build model

serve: build
	@$(BIN)/shardrun serve $(CONFIG)

test: lint build model
	SHARDRUN_TEST_MODEL="$$($(BIN)/shardrun fetch $(CONFIG))" cargo test --release --locked --workspace

lint: setup
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --document-private-items --quiet

bench: build model
	cargo bench --locked --package shardrun-cpu
	[ -x $(PEER)/bin/python ] || python3 -m venv $(PEER)
	CMAKE_ARGS="-DGGML_NATIVE=ON" $(PEER)/bin/python -m pip install -q llama-cpp-python==0.3.36
	$(PEER)/bin/python tests/bench/compare.py $(BIN)/shardrun $(CONFIG)

build: setup
	cargo build --release --locked --package shardrun --package shardrun-worker

model: build
	@$(BIN)/shardrun fetch $(CONFIG) >/dev/null

setup:
	@./setup.sh
