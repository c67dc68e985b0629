"""nginx with a configuration that is given: config=FILE, in which ${PORT}, ${DIR} (where it may write) and each ${NAME} of the options are replaced."""
import os
import re
import signal

from .base import Failed, Server, find_program


def upstream(ports):
    """SERVERS for docker/nginx/nginx.conf.template."""
    return " ".join(f"server 127.0.0.1:{p} max_fails=1 fail_timeout=15s; server 127.0.0.1:{p} backup max_fails=0;" for p in ports)


class Nginx(Server):
    kind = "nginx"
    quit_signal = signal.SIGQUIT  # running requests end

    def configure(self):
        if "config" not in self.options:
            raise Failed("nginx needs config=FILE")
        with open(self.options["config"]) as f:
            text = f.read()
        known = {"PORT": str(self.port()), "DIR": self.data, **self.options}
        # As envsubst does it in images of nginx: its own variables ($host) have no braces.
        self.write("data/nginx.conf", re.sub(r"\$\{([A-Z_]+)\}", lambda m: known[m[1]], text))
        self.own(self.path("data", "nginx.conf"))

    def launch(self):
        self.configure()
        self.spawn([find_program("nginx"), "-p", self.data, "-e", "stderr", "-c", self.path("data", "nginx.conf"), "-g", "daemon off;"])

    def reload(self, options):
        """Takes a changed configuration without closing a connection."""
        self.options.update(options)
        self.save()
        self.configure()
        os.kill(self.processes[0]["pid"], signal.SIGHUP)

    def url(self):
        return f"http://127.0.0.1:{self.port()}"
