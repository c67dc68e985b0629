"""S3 stores with a bucket `cairn`: MinIO (drives=N: N folders of one process; nodes=N: as many processes with a drive each), and versitygw over a folder."""
import hashlib
import os
import subprocess
import urllib.request

from .base import Failed, Server, answers, find_program, go_program


class S3(Server):
    region = "us-east-1"

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port()}"

    def curl(self, method, path, *headers):
        """Signed. Returns the status."""
        done = subprocess.run([find_program("curl"), "-sS", "-o", os.devnull, "-w", "%{http_code}", "--noproxy", "*", "--aws-sigv4", f"aws:amz:{self.region}:s3", "--user",
                               f"{self.secret('access')}:{self.secret('secret')}", "-H", "x-amz-content-sha256: " + hashlib.sha256(b"").hexdigest(),
                               *(word for h in headers for word in ("-H", h)), "-X", method, self.endpoint + path], capture_output=True, text=True)
        return done.stdout.strip()

    def add_bucket(self, name):
        status = self.curl("PUT", "/" + name)
        if status not in ("200", "409"):
            raise Failed(f"the bucket {name} cannot be made: {status}")
        return self.url(name)

    def drop_bucket(self, name):
        """With all that is in it."""
        status = self.curl("DELETE", "/" + name, "x-minio-force-delete: true")
        if status not in ("204", "404"):
            raise Failed(f"the bucket {name} cannot be removed: {status}")

    def started(self):
        self.write("access-key", self.secret("access") + "\n", 0o600)
        self.write("secret-key", self.secret("secret") + "\n", 0o600)
        self.add_bucket("cairn")

    def url(self, bucket="cairn"):
        return f"s3://{self.secret('access')}:{self.secret('secret')}@{bucket}?endpoint={self.endpoint}&region={self.region}"


class Minio(S3):
    kind = "minio"

    def launch(self):
        nodes, drives = int(self.options.get("nodes", 1)), int(self.options.get("drives", 1))
        ports = [self.port("main" if n == 0 else f"node-{n + 1}") for n in range(nodes)]
        folders = [self.own_folder("data", f"drive-{n + 1}") for n in range(max(nodes, drives))]
        urls = [f"http://127.0.0.1:{port}{folder}" for port, folder in zip(ports, folders)] if nodes > 1 else folders
        for port in ports:
            self.spawn([go_program("minio"), "server", "--quiet", "--address", f"127.0.0.1:{port}", *urls], MINIO_ROOT_USER=self.secret("access"),
                       MINIO_ROOT_PASSWORD=self.secret("secret"), MINIO_BROWSER="off", MINIO_UPDATE="off", MINIO_CI_CD="1", MINIO_API_REQUESTS_MAX="2000",
                       _MINIO_SERVER_LOCAL=f"127.0.0.1:{port}")  # in a container it would wait for a name that is not this machine's own

    def ready(self):
        return all(self.healthy(port) for name, port in self.ports.items() if name == "main" or name.startswith("node-"))

    @staticmethod
    def healthy(port):
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(f"http://127.0.0.1:{port}/minio/health/cluster", timeout=5).status == 200
        except OSError:
            return False


class Versitygw(S3):
    kind = "versitygw"

    def launch(self):
        self.own_folder("data", "buckets")
        self.spawn([go_program("versitygw"), "--access", self.secret("access"), "--secret", self.secret("secret"), "--region", self.region, "--port", f"127.0.0.1:{self.port()}",
                    "--keep-alive", "--quiet", "posix", self.path("data", "buckets")])

    def ready(self):
        return answers(self.port()) and self.curl("GET", "/") == "200"
