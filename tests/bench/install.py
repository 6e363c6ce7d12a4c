#!/usr/bin/env python3
"""Installs the peers that `compare.py` measures, where they are missing:

    python3 install.py [--isa ISA]

Into the user's cache, by pip from whatever index it is set up with: OpenVINO GenAI as it is, and
llama.cpp from the source in llama-cpp-python, built for this processor together with its server; for
another instruction set, without it. A peer that can't be had is named, with the reason, and the
comparison goes on without it.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile

import peers

# What llama.cpp's build and its Python package need.
TOOLS = ["cmake>=3.21", "ninja", "numpy", "diskcache", "jinja2", "typing-extensions"]
BUILD = {
    "CMAKE_BUILD_TYPE": "Release",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    # The server's page in a browser, which would be downloaded.
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    # GCC 12 and others leave out what is stored where only AMX's instruction for shapes of tiles reads it,
    # and llama.cpp ends with a fault: https://github.com/ggml-org/llama.cpp/issues/20824
    "CMAKE_CXX_FLAGS": "-fno-tree-dse -fno-dse",
}
BEYOND_X86_64 = ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")
INSTRUCTIONS = {
    None: {"GGML_NATIVE": "ON"},
    "avx2": {"GGML_NATIVE": "OFF"} | {f"GGML_{name}": "ON" for name in BEYOND_X86_64},
    "scalar": {"GGML_NATIVE": "OFF"} | {f"GGML_{name}": "OFF" for name in BEYOND_X86_64},
}


class Unavailable(Exception):
    """Why a peer can't be had."""


def run(what, *command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["nothing was said"]
        raise Unavailable(f"{what} failed: {errors[-1].strip()}")


def pip(*arguments):
    quiet = ["-q", "--disable-pip-version-check"]
    run(f"pip {arguments[0]}", peers.PYTHON, "-m", "pip", arguments[0], *quiet, *arguments[1:])


def environment():
    if not peers.PYTHON.exists():
        run("python3 -m venv", sys.executable, "-m", "venv", peers.VENV)


def has(package, version):
    code = f"from importlib.metadata import version; assert version({package!r}) == {version!r}"
    return subprocess.run([peers.PYTHON, "-c", code], stderr=subprocess.DEVNULL).returncode == 0


def openvino():
    if not has("openvino-genai", peers.OPENVINO_GENAI):
        print(f"installing OpenVINO GenAI {peers.OPENVINO_GENAI}", flush=True)
        pip("install", f"openvino-genai=={peers.OPENVINO_GENAI}")


def llama_cpp(build):
    # Last comes the server, so that its being there says that all is.
    made = {"llama": build.library} if build.isa else {"llama": build.library, "llama-server": build.server}
    if all(path.exists() for path in made.values()):
        return
    print(f"building llama.cpp of llama-cpp-python {peers.LLAMA_CPP_PYTHON}; this takes minutes", flush=True)
    pip("install", *TOOLS)
    if not peers.SOURCE.exists():
        source()
    os.environ["PATH"] = f"{peers.PYTHON.parent}:{os.environ['PATH']}"
    settings = [f"-D{key}={value}" for key, value in (BUILD | INSTRUCTIONS[build.isa]).items()]
    llama = peers.SOURCE / "vendor" / "llama.cpp"
    run("cmake", "cmake", "-S", llama, "-B", build.folder, "-G", "Ninja", *settings)
    for target in made:
        run("building llama.cpp", "nice", "cmake", "--build", build.folder, "--target", target)


def source():
    """The package's source, in its folder as a whole or not at all."""
    with tempfile.TemporaryDirectory(dir=peers.FOLDER) as folder:
        package = f"llama-cpp-python=={peers.LLAMA_CPP_PYTHON}"
        pip("download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", folder, package)
        name = peers.SOURCE.name
        # Pythons before 3.11.4 have no filters.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(os.path.join(folder, f"{name}.tar.gz")) as file:
            file.extractall(folder, **safely)
        os.rename(os.path.join(folder, name), peers.SOURCE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--isa", choices=[isa for isa in INSTRUCTIONS if isa], help="build for these instructions"
    )
    build = peers.Build(parser.parse_args().isa)
    peers.FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        environment()
    except Unavailable as reason:
        print(f"no peers: {reason}", file=sys.stderr)
        return
    wanted = [("llama.cpp", lambda: llama_cpp(build))]
    if not build.isa:  # it can't be held to one
        wanted.append(("OpenVINO GenAI", openvino))
    for name, install in wanted:
        try:
            install()
        except (Unavailable, OSError, tarfile.TarError) as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
