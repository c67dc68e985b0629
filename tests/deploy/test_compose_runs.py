"""What docker/compose.yaml starts, started as processes: its programs with its variables and its commands, in its order, asked by its health checks, ended as it ends them. Of the stores that come as images,
PostgreSQL's members run as it says, the others as scripts/lib/servers runs them, with its passwords."""
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys

import pytest
from composefile import compose_file, make_env
from harness import ROOT, Client, program, tail, wait_for

sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))
from servers.base import USER, open_way, reserve_port  # noqa: E402
from servers.clamd import EICAR, Clamd  # noqa: E402
from servers.postgres import bin_folder  # noqa: E402
from servers.rabbitmq import Rabbitmq  # noqa: E402
from servers.redis import Redis  # noqa: E402
from servers.s3 import Minio  # noqa: E402

MEMBERS = ("postgres", "postgres-replica")
SERVERS = {"redis": Redis, "rabbitmq": Rabbitmq, "minio": Minio, "clamd": Clamd}
# The images' entry points, and where their files lie.
ENTRY = {"docker/Dockerfile": "docker/gateway-start", "docker/nginx/Dockerfile": "docker/nginx/start"}
IN_IMAGES = {"/usr/lib/cairn/make-bucket": "docker/minio/make-bucket", "/usr/lib/cairn/member": "docker/postgres/member"}


def read(name):
    with open(os.path.join(ROOT, name)) as f:
        return f.read()


class Machine:
    """Where it all runs. Each container has an address of its own, by which the ports of compose.yaml are replaced."""

    def __init__(self, folder):
        self.folder = folder
        self.settings = make_env()
        self.services = compose_file(self.settings)["services"]
        self.processes, self.ended, self.servers = {}, {}, {}
        os.chmod(folder, 0o755)
        self.tools = os.path.join(folder, "bin")
        os.makedirs(self.tools)
        self.member = shutil.copy(os.path.join(ROOT, "docker/postgres/member"), folder)  # where its user may read it
        self.http = reserve_port(folder)
        self.at = {"gateway": [f"127.0.0.{n + 2}:{self.http}" for n in range(self.services["gateway"]["deploy"]["replicas"])]}
        for name in ("nginx", "worker", *MEMBERS, *SERVERS):
            self.at[name] = [f"127.0.0.1:{reserve_port(folder)}"]
        with open(os.path.join(self.tools, "getent"), "w") as f:  # compose's names of its services
            f.write("#!/bin/sh\n" + "".join(f"echo {at.partition(':')[0]}\n" for at in self.at["gateway"]))
        os.chmod(os.path.join(self.tools, "getent"), 0o755)

    # ---- what compose.yaml says ----

    def replaced(self, text):
        """Hosts and ports of services by where they are here."""
        for name, at in sorted(self.at.items(), key=lambda item: -len(item[0])):
            text = re.sub(rf"(?<![\w-]){name}:\d+", at[0], text)
        return text.replace(f"localhost:{self.settings['MINIO_PORT']}", self.at["minio"][0])

    def environment(self, name, n=0):
        given = {k: self.replaced(str(v)) for k, v in self.services[name].get("environment", {}).items()}
        host, _, port = self.at.get(name, [":"])[n].partition(":")
        data = os.path.join(self.folder, f"{name}-{n}")
        if name in MEMBERS:
            (other,) = set(MEMBERS) - {name}
            given |= {"MEMBER": name, "MEMBERS": "", "PORT": port, "PGPORT": port, "PEER_HOST": "127.0.0.1", "PEER_PORT": self.at[other][0].partition(":")[2], "PGDATA": os.path.join(data, "pg")}
        if name == "nginx":
            given |= {"DIR": data, "TEMPLATE": os.path.join(ROOT, "docker/nginx/nginx.conf.template"), "PORT": port, "GATEWAYS_PORT": str(self.http)}
        if "CAIRN_LISTEN" in given:
            given["CAIRN_LISTEN"] = f"{host}:{port}"
        if "CAIRN_ADVERTISE_PORT" in given:
            given |= {"CAIRN_ADVERTISE_PORT": str(reserve_port(self.folder)), "CAIRN_SPOOL": os.path.join(data, "spool")}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CAIRN_", "PG"))}
        return {**kept, "PATH": ":".join([self.tools, os.path.dirname(program("cairn-gateway")), bin_folder(), os.environ["PATH"], "/usr/sbin"]), "NO_PROXY": "*", **given}

    def command(self, name, words=None):
        service = self.services[name]
        entry = service.get("entrypoint") or [ENTRY[service["build"]["dockerfile"] if "build" in service else "docker/Dockerfile"]]
        words = service.get("command", []) if words is None else words
        return [os.path.join(ROOT, IN_IMAGES.get(entry[0], entry[0])), *entry[1:], *words]

    def is_healthy(self, name, n):
        if self.processes[name, n].poll() is not None:
            raise AssertionError(f"{name} ended:\n{tail(self.log(name, n))}")
        test = self.services[name].get("healthcheck", {}).get("test")
        if not test:
            dockerfile = read(self.services[name]["build"]["dockerfile"]).replace("\\\n", "")
            test = ["CMD-SHELL", re.findall(r"(?m)^HEALTHCHECK .*CMD (.*)$", dockerfile)[-1]]
        words = [re.sub(r"127\.0\.0\.1:\d+", self.at[name][n], word) for word in test[1:]]
        return subprocess.run(words if test[0] == "CMD" else ["sh", "-c", words[0]], env=self.environment(name, n), capture_output=True, timeout=30).returncode == 0

    # ---- life ----

    def log(self, name, n=0):
        return os.path.join(self.folder, f"{name}-{n}.log")

    def spawn(self, name, n):
        os.makedirs(os.path.join(self.folder, f"{name}-{n}", "spool"))
        command, as_user = self.command(name), {}
        if name in MEMBERS:
            command = ["sh", self.member, *command[1:], "-c", "shared_buffers=32MB", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
            if os.geteuid() == 0:
                user = pwd.getpwnam(USER)
                as_user = {"user": USER, "group": user.pw_gid, "extra_groups": []}
                os.chown(os.path.join(self.folder, f"{name}-{n}"), user.pw_uid, user.pw_gid)
                open_way(os.path.join(self.folder, f"{name}-{n}"))
        with open(self.log(name, n), "wb") as log:
            self.processes[name, n] = subprocess.Popen(command, env=self.environment(name, n), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                                       cwd=os.path.join(self.folder, f"{name}-{n}"), **as_user)

    def serve(self, name):
        """One that comes as an image."""
        server = SERVERS[name](os.path.join(self.folder, name))
        server.ports = {"main": int(self.at[name][0].partition(":")[2])}
        password = self.settings.get(f"{name.upper()}_PASSWORD")
        server.secrets = {"access": "cairn", "secret": password} if name == "minio" else {"password": password}
        server.save()
        self.servers[name] = server
        server.start({"default_vhost": "/"} if name == "rabbitmq" else {})

    def up(self, name):
        """With what it depends on, as `docker compose up` does it."""
        if name in self.ended or name in self.servers or (name, 0) in self.processes:
            return
        service = self.services[name]
        needs = service.get("depends_on", {})
        for other in needs:
            self.up(other)
        for other, how in needs.items():
            if how["condition"] == "service_healthy":
                self.wait_healthy(other)
            elif how["condition"] == "service_completed_successfully":
                assert self.ended[other] == 0, (name, other)
        if name in SERVERS:
            self.serve(name)
        elif service["restart"] == "no":
            done = subprocess.run(self.command(name), env=self.environment(name), capture_output=True, text=True, timeout=120)
            self.ended[name] = done.returncode
            assert done.returncode == 0, (name, done.stderr)
        else:
            for n in range(service["deploy"].get("replicas", 1)):
                self.spawn(name, n)

    def wait_healthy(self, name):
        for n in range(len(self.at[name])):
            if (name, n) in self.processes:
                wait_for(lambda: self.is_healthy(name, n), f"the health of {name}", 90)

    def run(self, name, *words, **kw):
        """docker compose run --rm NAME …"""
        return subprocess.run(self.command(name, words), env=self.environment(name), capture_output=True, text=True, timeout=60, check=True, **kw).stdout

    def stop(self, name):
        """Exit statuses; within its stop_grace_period."""
        seconds = int(self.services[name]["stop_grace_period"].rstrip("s"))
        mine = [p for (of, _), p in self.processes.items() if of == name]
        for p in mine:
            p.send_signal(signal.SIGINT if name in MEMBERS else signal.SIGTERM)  # the images' STOPSIGNAL
        statuses = [p.wait(seconds) for p in mine]
        self.processes = {k: p for k, p in self.processes.items() if k[0] != name}
        return statuses

    def close(self):
        for p in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()
        for server in self.servers.values():
            server.kill()


@pytest.fixture
def machine(folder):
    m = Machine(folder)
    yield m
    m.close()


def test_all_of_it(machine):
    machine.up("nginx")
    machine.up("worker")
    for name in ("nginx", "gateway", "worker", *MEMBERS):
        machine.wait_healthy(name)
    health = json.loads(subprocess.run(["curl", "-fsS", "--noproxy", "*", f"http://{machine.at['gateway'][0]}/actuator/health"], capture_output=True, check=True).stdout)
    assert health["status"] == "UP", health

    machine.run("gateway", "admin", "user", "add", "ann", "--admin", "--password-stdin", input="ann's password\n")
    machine.run("gateway", "admin", "drive", "create", "home", "--owner", "ann")
    client = Client()
    client.url = f"http://{machine.at['nginx'][0]}"
    wait_for(client.ready, "nginx")
    answer = client.api("POST", "/auth/login", json={"username": "ann", "password": "ann's password", "device": "d"}, token="")
    assert answer.status == 200, answer
    client.token = answer.json["accessToken"]

    content = os.urandom(3 << 20)
    assert client.api("PUT", "/files/content" + client.query(drive="home", path="/f"), body=content).status == 201
    for _ in machine.at["gateway"]:
        assert client.api("GET", "/files/content" + client.query(drive="home", path="/f")).body == content
    # the worker has the broker, the scanner and the store
    assert client.api("PUT", "/files/content" + client.query(drive="home", path="/virus"), body=EICAR.encode()).status == 201
    wait_for(lambda: client.api("GET", "/files/content" + client.query(drive="home", path="/virus")).status == 403, "the scan", 60)

    for name in ("nginx", "gateway", "worker", *reversed(MEMBERS)):
        statuses = machine.stop(name)
        assert all(s == 0 or (name == "nginx" and s == 143) for s in statuses), (name, statuses, tail(machine.log(name)))
