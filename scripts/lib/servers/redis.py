"""Redis as the cache that it is here: nothing on disk, least recently used keys go first. Options: any of redis.conf's (maxmemory=64mb)."""
import subprocess

from .base import Server, find_program


class Redis(Server):
    kind = "redis"

    def names(self):
        return ["main"]

    def config(self, name):
        folder = self.own_folder("data", name)
        return {"port": self.port(name), "bind": "127.0.0.1", "dir": folder, "requirepass": self.secret("password"), "masterauth": self.secret("password"),
                "save": "", "appendonly": "no", "maxmemory": "64mb", "maxmemory-policy": "allkeys-lru", **self.options}

    def launch(self):
        for name in self.names():
            words = (word for key, value in self.config(name).items() for word in ("--" + key, str(value)))
            self.spawn([find_program("redis-server"), *words])

    def cli(self, name, *words):
        done = subprocess.run([find_program("redis-cli"), "-h", "127.0.0.1", "-p", str(self.port(name)), "--no-auth-warning", *words], capture_output=True, text=True,
                              env=self.environment({"REDISCLI_AUTH": self.secret("password")}))
        return done.stdout + done.stderr

    def ready(self):
        return all(self.cli(name, "ping").strip() == "PONG" for name in self.names())

    def url(self):
        hosts = ",".join(f"127.0.0.1:{self.port(name)}" for name in self.names())
        return f"redis://:{self.secret('password')}@{hosts}/0"


class RedisCluster(Redis):
    kind = "redis-cluster"

    def names(self):
        return ["1", "2", "3"]

    def config(self, name):
        return {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-port": self.port("bus-" + name), "cluster-node-timeout": "2000", **super().config(name)}

    def ready(self):
        if not super().ready():
            return False
        if "cluster_slots_assigned:16384" not in self.cli("1", "cluster", "info"):
            self.cli("1", "--cluster", "create", *(f"127.0.0.1:{self.port(n)}" for n in self.names()), "--cluster-yes")
        return all("cluster_state:ok" in self.cli(n, "cluster", "info") for n in self.names())

    def url(self):
        return super().url()[:-len("/0")]
