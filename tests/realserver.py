"""Real servers for tests, started by scripts/lib/server."""
import os
import subprocess

from harness import ROOT


class RealServer:
    """One of a kind, with all it has in `folder`. Started again it has the same ports and data."""

    def __init__(self, kind, folder, *options):
        self.kind, self.folder, self.options = kind, folder, options

    def _do(self, *words):
        done = subprocess.run([os.path.join(ROOT, "scripts", "lib", "server"), *words], capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr

    def start(self):
        self._do("start", self.kind, self.folder, *self.options)
        return self

    def stop(self):
        self._do("stop", self.folder)

    def kill(self):
        self._do("kill", self.folder)

    @property
    def url(self):
        with open(os.path.join(self.folder, "url")) as f:
            return f.read().strip()
