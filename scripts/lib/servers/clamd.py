"""clamd with a signature database made here (its public one cannot be had everywhere): it knows the EICAR test file, as every scanner does. Options: those of clamd.conf;
socket=unix listens at DIR/socket instead of on a port."""
import hashlib

from .base import Server, answers, find_program

# In two pieces, so that no scanner takes this file for the one it describes.
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


class Clamd(Server):
    kind = "clamd"

    def make(self):
        folder = self.own_folder("data", "db")
        plain = EICAR.encode()
        # By its hash where it is all there is, and by its bytes anywhere (type 0, offset *) within a larger file.
        self.write("data/db/cairn.hdb", f"{hashlib.md5(plain).hexdigest()}:{len(plain)}:Eicar-Test-Signature\n")
        self.write("data/db/cairn.ndb", f"Eicar-Test-Signature:0:*:{plain.hex()}\n")
        self.own(f"{folder}/cairn.hdb", f"{folder}/cairn.ndb")

    @property
    def socket(self):
        return self.path("data", "socket") if self.options.get("socket") == "unix" else None

    def launch(self):
        settings = {"Foreground": "yes", "DatabaseDirectory": self.path("data", "db"), "LogSyslog": "no", "LogTime": "yes", "TemporaryDirectory": self.own_folder("data", "tmp"),
                    "StreamMaxLength": "100M", "MaxThreads": "4", "ReadTimeout": "30",
                    **({"LocalSocket": self.socket, "FixStaleSocket": "yes"} if self.socket else {"TCPSocket": self.port(), "TCPAddr": "127.0.0.1"}),
                    **{k: v for k, v in self.options.items() if k != "socket"}}
        self.write("data/clamd.conf", "".join(f"{k} {v}\n" for k, v in settings.items()))
        self.own(self.path("data", "clamd.conf"))
        self.spawn([find_program("clamd"), "--config-file", self.path("data", "clamd.conf")])

    def ready(self):
        if not self.socket:
            return answers(self.port(), b"zPING\0", b"PONG")
        import socket
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.settimeout(5)
                s.connect(self.socket)
                s.sendall(b"zPING\0")
                return b"PONG" in s.recv(16)
            except OSError:
                return False

    def url(self):
        return f"clamd:unix:{self.socket}" if self.socket else f"clamd://127.0.0.1:{self.port()}"
