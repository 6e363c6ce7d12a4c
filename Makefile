# The README's commands, and nothing clever. CARGO_TARGET_DIR is honoured.

BIN := $(or $(CARGO_TARGET_DIR),target)/release
CONFIG := configs/smollm2.toml
# The peer that `make bench` compares with: llama.cpp, built on this machine.
PEER := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/shardrun/peer

.PHONY: serve test test-setup soak lint bench bench-quick bench-setup setup build model

title = @printf '\n== %s\n\n' '$(1)'

# The comparisons of the whole server, in so many rounds; engine.py also leaves its results as JSON.
define compare
$(call title,beside llama.cpp)
$(PEER)/bin/python tests/bench/compare.py $(BIN)/shardrun $(CONFIG) --rounds $(1)
$(call title,the engine beside itself)
python3 tests/bench/engine.py $(BIN)/shardrun $(CONFIG) --rounds $(1) --json $(BIN)/engine.json
endef

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

bench: bench-setup build model
	$(call title,kernels and passes of the CPU backend)
	cargo bench --locked --package shardrun-cpu --bench passes
	$(call title,choosing a token)
	cargo bench --locked --package shardrun-engine --bench sampling
	$(call title,the scheduler without a device)
	cargo bench --locked --package shardrun-engine --bench scheduler
	$(call compare,5)

bench-quick: bench-setup build model
	$(call compare,1)

bench-setup:
	@./setup.sh bench
	@[ -x $(PEER)/bin/python ] || python3 -m venv $(PEER)
	CMAKE_ARGS="-DGGML_NATIVE=ON" $(PEER)/bin/python -m pip install -q llama-cpp-python==0.3.36

build: setup
	cargo build --release --locked --package shardrun --package shardrun-spawn --package shardrun-worker

model: build
	@$(BIN)/shardrun fetch $(CONFIG) >/dev/null

setup:
	@./setup.sh
