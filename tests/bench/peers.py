"""Where the peers are, which versions of them, and whether they are there.

They live in a folder of the user's cache: a virtual environment, the source of llama-cpp-python, and
what was built of it for this processor, since a home may be shared by machines of several kinds.
"""

import hashlib
import os
import platform
import re
from pathlib import Path

LLAMA_CPP_PYTHON = "0.3.36"
OPENVINO_GENAI = "2026.4.1.0"

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardrun" / "peer"
VENV = FOLDER / "venv"
PYTHON = VENV / "bin" / "python"
SOURCE = FOLDER / f"llama_cpp_python-{LLAMA_CPP_PYTHON}"


def processor():
    """The lines of the kernel's page that say what instructions a processor has, once each."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    return sorted(set(re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)))


def _key():
    text = "\n".join([platform.machine(), *processor()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Build:
    """llama.cpp built for this processor, or for an instruction set that shardrun is held to."""

    def __init__(self, isa=None):
        self.isa = isa
        self.folder = SOURCE / f"build-{isa or _key()}"
        self.libraries = self.folder / "bin"
        self.library = self.libraries / "libllama.so"
        self.server = self.libraries / "llama-server"


# A vLLM that is there already, since its CPU build takes 6 GB: its virtual environment, and the same
# model in a form that it reads.
VLLM, VLLM_MODEL = (os.environ.get(name) for name in ("SHARDRUN_BENCH_VLLM", "SHARDRUN_BENCH_VLLM_MODEL"))


def q4_0(model):
    """Where the copy of a model in llama.cpp's fastest type is kept."""
    of = f"{os.path.realpath(model)} {os.stat(model).st_size} {os.stat(model).st_mtime_ns}"
    return FOLDER / f"{Path(model).stem}-{hashlib.sha256(of.encode()).hexdigest()[:12]}.Q4_0.gguf"
