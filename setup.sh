#!/bin/sh
# Installs what building and running shardrun needs, where it is missing: an MPI, libclang for its
# bindings, a C compiler, pip to fetch models. Changes nothing when all is there.
#
#   setup.sh          what building and running needs
#   setup.sh test     also what some tests need: Slurm, namespaces, shellcheck
#   setup.sh bench    also what the benchmarks need: venv and a C++ compiler, to build llama.cpp
set -eu

missing=""
need() { missing="$missing $*"; }
# Without these, what needs them says so and skips.
wanted=""
want() { wanted="$wanted $*"; }

# An MPI that is there already, from environment modules for one, is used as it is.
command -v mpicc >/dev/null 2>&1 && command -v mpirun >/dev/null 2>&1 || need openmpi-bin libopenmpi-dev

any() { for path in "$@"; do [ -e "$path" ] && return 0; done; return 1; }
# libclang.so* and libclang-14.so*; libclang-cpp.so* is another library.
[ -n "${LIBCLANG_PATH:-}" ] ||
    any /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so* \
        /usr/lib/*/libclang.so* /usr/lib/*/libclang-[0-9]*.so* \
        /usr/lib64/libclang.so* /usr/lib64/libclang-[0-9]*.so* ||
    need libclang1-14
[ -n "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] ||
    any /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h ||
    need libclang-common-14-dev

command -v cc >/dev/null 2>&1 || need gcc libc6-dev
python3 -m pip --version >/dev/null 2>&1 || command -v pip3 >/dev/null 2>&1 ||
    command -v pip >/dev/null 2>&1 || need python3-pip

has() {
    # Servers are where only administrators look.
    for program in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || return 1
    done
}
if [ "${1:-}" = test ]; then
    has slurmctld slurmd srun || want slurm-wlm slurm-wlm-basic-plugins
    has munged || want munge
    has ip || want iproute2
    has unshare nsenter setpriv || want util-linux
    has mount || want mount
    has shellcheck || want shellcheck
fi

if [ "${1:-}" = bench ]; then
    command -v c++ >/dev/null 2>&1 || need g++
    python3 -c "import ensurepip, venv" 2>/dev/null || need python3-venv
fi

install="apt-get install -y --no-install-recommends"
can_install=false
[ "$(id -u)" -eq 0 ] && has apt-get && can_install=true

if [ -n "$missing" ] && ! has apt-get; then
    echo "setup: needed here, by the names that Debian gives them:$missing" >&2
    exit 1
elif [ -n "$missing" ] && ! $can_install; then
    echo "setup: some packages are missing; an administrator must run this line:" >&2
    echo "  apt-get update && $install$missing$wanted" >&2
    exit 1
elif [ -n "$wanted" ] && ! $can_install; then
    echo "setup: some tests will skip without these, by the names that Debian gives them:$wanted" >&2
elif [ -n "$missing$wanted" ]; then
    echo "setup: installing$missing$wanted"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Services aren't started in this runlevel; without systemd, trying to may fail.
    # shellcheck disable=SC2086 # one word a package
    RUNLEVEL=1 $install -qq $missing $wanted >/dev/null
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is not on PATH; install Rust 1.91 or later (https://rustup.rs)" >&2
    exit 1
fi
