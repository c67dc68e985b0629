"""Our own processes as parts of a cluster: a gateway, a worker. They run as whoever starts them, with their settings in the environment, where no process list shows a
password."""
import os
import signal
import urllib.request

from .base import Server


class Process(Server):
    """Options: bin=DIR, and each setting of the program by the name of its variable (CAIRN_META=…)."""
    verb = ""
    grace = 45  # the drain takes up to 30 s
    patience = 30
    quit_signal = signal.SIGTERM
    words = ()  # more options for the program

    def user(self):
        return None

    def launch(self):
        settings = {"CAIRN_LISTEN": f"127.0.0.1:{self.port()}", **{k: v for k, v in self.options.items() if k.startswith("CAIRN_")}, **self.more()}
        self.spawn([os.path.join(self.options["bin"], "cairn-gateway"), self.verb, *self.options.get("words", "").split()], **settings)

    def more(self):
        return {}

    def ready(self):
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(self.url() + "/actuator/health/readiness", timeout=5).status == 200
        except OSError:
            return False

    def url(self):
        return f"http://127.0.0.1:{self.port()}"


class Gateway(Process):
    kind = "gateway"
    verb = "serve"

    def more(self):
        return {"CAIRN_ADVERTISE": f"http://127.0.0.1:{self.port('peers')}", "CAIRN_SPOOL": self.own_folder("data", "spool")}


class Worker(Process):
    kind = "worker"
    verb = "worker"
