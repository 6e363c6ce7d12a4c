#!/bin/sh
# Installs what building and running shardrun needs, where it is missing: an MPI, libclang for its
# bindings, a C compiler, pip to fetch models. Changes nothing when all is there.
#
#   setup.sh          what building and running needs
#   setup.sh bench    also what the benchmarks need: venv and a C++ compiler, to build llama.cpp
set -eu

missing=""
need() { missing="$missing $*"; }

# An MPI that is there already, from environment modules for one, is used as it is.
command -v mpicc >/dev/null 2>&1 && command -v mpirun >/dev/null 2>&1 || need openmpi-bin libopenmpi-dev

any() { for path in "$@"; do [ -e "$path" ] && return 0; done; return 1; }
[ -n "${LIBCLANG_PATH:-}" ] ||
    any /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* ||
    need libclang1-14
[ -n "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] ||
    any /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h ||
    need libclang-common-14-dev

command -v cc >/dev/null 2>&1 || need gcc libc6-dev
python3 -m pip --version >/dev/null 2>&1 || command -v pip3 >/dev/null 2>&1 ||
    command -v pip >/dev/null 2>&1 || need python3-pip

if [ "${1:-}" = bench ]; then
    command -v c++ >/dev/null 2>&1 || need g++
    python3 -c "import ensurepip, venv" 2>/dev/null || need python3-venv
fi

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "setup: needed here, by the names that Debian gives them:$missing" >&2
        exit 1
    fi
    install="apt-get install -y --no-install-recommends$missing"
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: some packages are missing; an administrator must run this line:" >&2
        echo "  apt-get update && $install" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # one word a package
    apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is not on PATH; install Rust 1.91 or later (https://rustup.rs)" >&2
    exit 1
fi
