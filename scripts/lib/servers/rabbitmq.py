"""RabbitMQ, one node or three that are a cluster, with an epmd of its own (the machine's, where there is one, is never asked), a vhost `cairn`, and the management API, which
tests use. Options: those of rabbitmq.conf."""
import base64
import glob
import json
import os
import signal
import time
import urllib.error
import urllib.request

from .base import Failed, Server, answers, find_program, signal_process, start_time, wait_ended, wait_until


def home():
    found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    if not found:
        raise Failed("RabbitMQ is not installed: run scripts/lib/install tests")
    return found[-1]


class Rabbitmq(Server):
    kind = "rabbitmq"
    patience = 120

    def names(self):
        return ["main"]

    def node(self, name):
        return f"cairn-{self.port(name)}@localhost"

    def erlang(self):
        """What every program of Erlang needs to find these nodes, and no others."""
        return {"ERL_EPMD_PORT": str(self.port("epmd")), "ERL_EPMD_ADDRESS": "127.0.0.1", "HOME": self.data, "ERL_INETRC": self.path("data", "inetrc")}

    def config(self, name):
        return {"listeners.tcp.1": f"127.0.0.1:{self.port(name)}", "management.tcp.port": self.port("management-" + name), "management.tcp.ip": "127.0.0.1",
                "default_user": "cairn", "default_pass": self.secret("password"), "default_vhost": "cairn", "default_user_tags.administrator": "true",
                "log.console": "true", "log.console.level": "warning", "log.file": "false", "disk_free_limit.absolute": "50MB", "queue_index_embed_msgs_below": "4096",
                **self.options}

    def make(self):
        self.write("data/plugins", "[rabbitmq_management].\n")
        self.write("data/inetrc", '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n')
        self.write("data/.erlang.cookie", self.secret("cookie"), 0o400)
        self.own(*(self.path("data", each) for each in ("plugins", "inetrc", ".erlang.cookie")))

    def launch(self):
        self.spawn([find_program("epmd"), "-port", str(self.port("epmd")), "-address", "127.0.0.1"], **self.erlang())
        for name in self.names():
            self.launch_node(name)

    def launch_node(self, name):
        folder = self.own_folder("data", name)
        file = f"data/{name}/rabbitmq.conf"
        self.write(file, "".join(f"{k} = {v}\n" for k, v in self.config(name).items()), 0o600)
        self.own(self.path(file))
        self.spawn([os.path.join(home(), "sbin", "rabbitmq-server")], **self.erlang(), RABBITMQ_NODENAME=self.node(name), RABBITMQ_BASE=self.data,
                   RABBITMQ_MNESIA_BASE=self.path("data", "mnesia"), RABBITMQ_LOG_BASE=folder, RABBITMQ_CONFIG_FILE=self.path(file),
                   RABBITMQ_ENABLED_PLUGINS_FILE=self.path("data", "plugins"), RABBITMQ_CONF_ENV_FILE=self.path("data", "none"),
                   RABBITMQ_ADVANCED_CONFIG_FILE=self.path("data", "none.config"), RABBITMQ_DIST_PORT=str(self.port("dist-" + name)),
                   RABBITMQ_PID_FILE=os.path.join(folder, "pid"), RABBITMQ_GENERATED_CONFIG_DIR=os.path.join(folder, "config"),
                   RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2")

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
        return all(self.node_ready(name) for name in self.names())

    def node_ready(self, name):
        return answers(self.port(name), b"AMQP\0\0\x09\x01", b"\x00\x0a\x00\x0a") and self.manage("GET", "/overview", at=name) is not None

    def broker(self, name):
        """Its pid: that of the broker itself, not of the script around it."""
        with open(self.path("data", name, "pid")) as f:
            return int(f.read())

    def started(self):
        """The pids that count are the brokers' own."""
        for pid in map(self.broker, self.names()):
            if all(p["pid"] != pid for p in self.processes):
                self.processes.append({"pid": pid, "start": start_time(pid), "name": "beam"})
        self.save()

    def manage(self, method, path, body=None, at=None):
        """The management API of a node. None: it does not answer. A name in `path` is percent-encoded."""
        key = base64.b64encode(f"cairn:{self.secret('password')}".encode()).decode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port('management-' + (at or self.names()[0]))}/api{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
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
        hosts = ",".join(f"127.0.0.1:{self.port(name)}" for name in self.names())
        return f"amqp://cairn:{self.secret('password')}@{hosts}/{vhost}"


class RabbitmqCluster(Rabbitmq):
    """Three nodes that find one another by their configuration. One that sees no majority pauses."""
    kind = "rabbitmq-cluster"

    def names(self):
        return ["1", "2", "3"]

    def config(self, name):
        return {"cluster_formation.peer_discovery_backend": "classic_config", "cluster_partition_handling": "pause_minority",
                **{f"cluster_formation.classic_config.nodes.{n}": self.node(n) for n in self.names()}, **super().config(name)}

    def ready(self):
        if not super().ready():
            return False
        nodes = self.manage("GET", "/nodes") or []
        return sum(n["running"] for n in nodes) == len(self.names())

    def kill_nodes(self, *names):
        pids = [self.broker(name) for name in names]
        pids += [os.getsid(pid) for pid in pids]  # the scripts around them
        killed = [p for p in self.processes if p["pid"] in pids]
        for p in killed:
            signal_process(p, signal.SIGKILL)
        wait_ended(killed, 10)
        self.processes = [p for p in self.processes if p not in killed]
        self.save()

    def start_nodes(self, *names):
        """Those that were killed, the last one first. Returns when the cluster is whole. One by one: of two at once each may wait for the other's tables, and a third, which had
        paused, for neither (RabbitMQ 3.10)."""
        for name in names:
            self.launch_node(name)
            wait_until(lambda: self.node_ready(name), self.patience, f"node {name} did not come back")
        self.wait_ready()
        self.started()
