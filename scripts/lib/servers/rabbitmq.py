"""RabbitMQ with an epmd of its own (the machine's, where there is one, is never asked), a vhost `cairn`, and the management API, which tests use. Options: those of
rabbitmq.conf."""
import base64
import glob
import json
import os
import signal
import time
import urllib.error
import urllib.request

from .base import Failed, Server, answers, find_program, start_time


def home():
    found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    if not found:
        raise Failed("RabbitMQ is not installed: run scripts/lib/install tests")
    return found[-1]


class Rabbitmq(Server):
    kind = "rabbitmq"
    patience = 120

    @property
    def node(self):
        return f"cairn-{self.port()}@localhost"

    def erlang(self):
        """What every program of Erlang needs to find this node, and no other."""
        return {"ERL_EPMD_PORT": str(self.port("epmd")), "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_NODENAME": self.node, "HOME": self.data,
                "ERL_INETRC": self.path("data", "inetrc")}

    def configure(self):
        settings = {"listeners.tcp.1": f"127.0.0.1:{self.port()}", "management.tcp.port": self.port("management"), "management.tcp.ip": "127.0.0.1",
                    "default_user": "cairn", "default_pass": self.secret("password"), "default_vhost": "cairn", "default_user_tags.administrator": "true",
                    "log.console": "true", "log.console.level": "warning", "log.file": "false", "disk_free_limit.absolute": "50MB", "queue_index_embed_msgs_below": "4096",
                    **self.options}
        self.write("data/rabbitmq.conf", "".join(f"{k} = {v}\n" for k, v in settings.items()), 0o600)
        self.write("data/plugins", "[rabbitmq_management].\n")
        self.write("data/inetrc", '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n')
        self.own(*(self.path("data", name) for name in ("rabbitmq.conf", "plugins", "inetrc")))

    def launch(self):
        self.configure()
        self.spawn([find_program("epmd"), "-port", str(self.port("epmd")), "-address", "127.0.0.1"], **self.erlang())
        self.spawn([os.path.join(home(), "sbin", "rabbitmq-server")], **self.erlang(), RABBITMQ_BASE=self.data, RABBITMQ_MNESIA_BASE=self.path("data", "mnesia"),
                   RABBITMQ_LOG_BASE=self.data, RABBITMQ_CONFIG_FILE=self.path("data", "rabbitmq.conf"), RABBITMQ_ENABLED_PLUGINS_FILE=self.path("data", "plugins"),
                   RABBITMQ_CONF_ENV_FILE=self.path("data", "none"), RABBITMQ_ADVANCED_CONFIG_FILE=self.path("data", "none.config"),
                   RABBITMQ_DIST_PORT=str(self.port("dist")), RABBITMQ_PID_FILE=self.path("data", "pid"),
                   RABBITMQ_GENERATED_CONFIG_DIR=self.path("data", "config"), RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2")

    def end(self, number):
        """A broker that its script is only just starting is nobody's child yet: it is known by our folder on its command line."""
        super().end(number)
        deadline = time.monotonic() + 10
        while (left := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self.is_ours(pid)]) and time.monotonic() < deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)

    def is_ours(self, pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read()
            return b"beam" in words.split(bytes(1))[0] and self.data.encode() in words
        except OSError:
            return False

    def ready(self):
        return answers(self.port(), b"AMQP\0\0\x09\x01", b"\x00\x0a\x00\x0a") and self.manage("GET", "/overview") is not None

    def started(self):
        """The pid that counts is the broker's own, not that of the script around it."""
        with open(self.path("data", "pid")) as f:
            pid = int(f.read())
        if all(p["pid"] != pid for p in self.processes):
            self.processes.append({"pid": pid, "start": start_time(pid), "name": "beam"})
            self.save()

    def manage(self, method, path, body=None):
        """The management API. None: it does not answer. A name in `path` is percent-encoded."""
        key = base64.b64encode(f"cairn:{self.secret('password')}".encode()).decode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port('management')}/api{path}", method=method, data=None if body is None else json.dumps(body).encode(),
                                         headers={"Authorization": "Basic " + key, "Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as r:
                return json.loads(r.read() or b"{}")
        except urllib.error.HTTPError as e:
            with e:
                raise Failed(f"RabbitMQ, {method} {path}: {e.code} {e.read()[:300]!r}") from None
        except OSError:
            return None

    def add_vhost(self, name):
        self.manage("PUT", f"/vhosts/{name}", {})
        self.manage("PUT", f"/permissions/{name}/cairn", {"configure": ".*", "write": ".*", "read": ".*"})
        return self.url(name)

    def drop_vhost(self, name):
        self.manage("DELETE", f"/vhosts/{name}")

    def url(self, vhost="cairn"):
        return f"amqp://cairn:{self.secret('password')}@127.0.0.1:{self.port()}/{vhost}"
