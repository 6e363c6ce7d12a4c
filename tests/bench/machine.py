"""The machine: which cores are used, what it is, and what it gives at most."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path

from clients import Failed

ROOT = Path(__file__).parents[2]


def cores(count):
    """So many cores of those allowed: no two of them threads of one core, unless there are too few."""
    chosen, taken = [], set()
    allowed = sorted(os.sched_getaffinity(0))
    for core in allowed:
        if core not in taken:
            chosen.append(core)
            taken |= siblings(core)
    chosen += [core for core in allowed if core not in chosen]
    return set(chosen[:count])


def share_a_core(cores):
    """Whether some of them are threads of one core."""
    return any(siblings(core) & cores != {core} for core in cores)


def siblings(core):
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        ranges = [part.split("-") for part in path.read_text(encoding="ascii").strip().split(",")]
    except OSError:
        return {core}
    return {cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)}


def description():
    def found(path, pattern):
        try:
            match = re.search(pattern, Path(path).read_text(encoding="utf-8"), re.MULTILINE)
        except OSError:
            return None
        return match and match[1].strip()

    kilobytes = found("/proc/meminfo", r"^MemTotal:\s*(\d+)")
    flags = (found("/proc/cpuinfo", r"^(?:flags|Features)\s*:(.*)$") or "").split()
    telling = ["avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm"]
    return {
        "processor": found("/proc/cpuinfo", r"^model name\s*:(.*)$") or platform.machine(),
        "instructions": [flag for flag in telling if flag in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(int(kilobytes or 0) * 1024 / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def commit():
    command = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


class Limits:
    """`worker/cpu/benches/limits.rs`, built once and run again and again."""

    def __init__(self, cores, file_bytes):
        self.cores, self.file_bytes = cores, file_bytes
        command = ["cargo", "bench", "--locked", "--package", "shardrun-cpu", "--bench", "limits"]
        command += ["--no-run", "--message-format", "json"]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
        programs = [message["executable"] for message in messages if message.get("executable")]
        if built.returncode != 0 or not programs:
            raise Failed(f"the machine's limits can't be built: {built.stderr.strip()[-300:]}")
        self.program = programs[-1]

    def measure(self):
        """Rates by what is limited and the instructions used, in 10^9 bytes or operations a second."""
        done = subprocess.run(
            [self.program, "--file-bytes", str(self.file_bytes)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        if done.returncode != 0:
            raise Failed("the machine's limits can't be measured")
        return {
            f"{probe['what']} {probe['with']}": probe["rate"] for probe in json.loads(done.stdout)["probes"]
        }
