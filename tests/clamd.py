"""A real clamd for system tests (scripts/lib/server), and the file that every scanner knows."""
import os
import subprocess

from harness import ROOT

SERVER = os.path.join(ROOT, "scripts", "lib", "server")
# In two pieces, so that no scanner takes this file for the one it describes.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


class Clamd:
    def __init__(self, folder, *options):
        self.folder, self.options = folder, options

    def _server(self, *words):
        subprocess.run([SERVER, *words], check=True, timeout=60)

    def start(self):
        """Again at the same place."""
        self._server("start", "clamd", self.folder, *self.options)
        return self

    def stop(self):
        self._server("stop", self.folder)

    @property
    def url(self):
        with open(os.path.join(self.folder, "url")) as f:
            return f.read().strip()
