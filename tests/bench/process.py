"""Programs that are measured, on the cores that they are given."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

from clients import Failed

# Longest start of a program.
START_S = 300.0


class Process:
    """A program on some cores; what it says of its troubles is kept."""

    pending = b""

    def __init__(self, command, cores, environment=None, **pipes):
        self.errors = tempfile.TemporaryFile()
        try:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                env=os.environ | (environment or {}),
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
                stderr=self.errors,
                bufsize=0,
                **pipes,
            )
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}") from None

    def line(self, patience):
        """The next line of its output."""
        output, deadline = self.popen.stdout, time.perf_counter() + patience
        while b"\n" not in self.pending:
            if not select.select([output], [], [], max(0.0, deadline - time.perf_counter()))[0]:
                raise Failed(f"silent for {patience:.0f} s")
            if not (data := os.read(output.fileno(), 1 << 16)):
                raise Failed(self.last_words())
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        return line.decode(errors="replace")

    def last_words(self):
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            return "it says nothing more, and goes on"
        lines = [line.strip() for line in self.words().splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"it ended with {self.popen.returncode}"

    def words(self):
        """What it wrote on its standard error."""
        size = os.fstat(self.errors.fileno()).st_size
        return os.pread(self.errors.fileno(), size, 0).decode(errors="replace")

    def stop(self):
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@contextmanager
def stopped_on_failure(process):
    try:
        yield
    except BaseException:
        process.stop()
        raise


def end_on_signals():
    """Signals that end this program are exceptions then, so that what it has started is stopped, too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))
