"""The driver's protocol (docs/protocol.md) as a mount speaks it, without a mount."""
import hashlib
import json
import uuid

BASE = "/api/v1/fs/v1"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Peer:
    """One mount's session and journal."""

    def __init__(self, gateway, drive=None, token=None, device="peer"):
        self.gateway, self.token = gateway, token
        self.journal = str(uuid.uuid4())
        self.next_batch = 1
        a = self.call("POST", "/mount", json={"drive": drive or gateway.drive, "device": device, "journal": self.journal})
        assert a.status == 200, a
        self.info = a.json
        self.drive, self.session, self.root = self.info["drive"], self.info["session"], self.info["root"]
        self.free_ino = self.info["inoFirst"]

    def call(self, method, path, **kw):
        return self.gateway.api(method, BASE + path, token=self.token, **kw)

    def get(self, what, **query):
        return self.call("GET", f"/{what}" + self.gateway.query(drive=self.drive, **query))

    def ino(self):
        self.free_ino += 1
        return self.free_ino - 1

    # ---- batches ----

    def frame(self, ops, contents=(), number=None, confirmed=None, **more):
        """(headers, body); contents are plain bytes, sent raw."""
        number = self.next_batch if number is None else number
        head = {"drive": self.drive, "session": self.session, "journal": self.journal, "batch": number,
                "confirmed": number - 1 if confirmed is None else confirmed, "ops": list(ops),
                "contents": [{"sha256": sha256(c), "size": len(c), "stored": len(c), "codec": "raw"} for c in contents]}
        head.update(more)
        head = json.dumps(head).encode()
        return {"X-Cairn-Head": str(len(head))}, head + b"".join(contents)

    def send(self, frame):
        headers, body = frame
        return self.call("POST", "/batch", headers=headers, body=body)

    def batch(self, *ops, contents=(), **more):
        """Applies operations; the answer's results."""
        a = self.send(self.frame(ops, contents, **more))
        assert a.status == 200, a
        self.next_batch += 1
        return a.json["results"]

    def one(self, op, contents=()):
        result = self.batch(op, contents=contents)[0]
        assert "error" not in result, result
        return result

    # ---- operations ----

    def create(self, name, parent=None, mode=0o100644, **more):
        return {"op": "create", "parent": parent or self.root, "name": name, "ino": self.ino(), "mode": mode, "uid": 0, "gid": 0, **more}

    def commit(self, ino, data, base=0, **more):
        return {"op": "commit", "ino": ino, "base": base, "size": len(data), "chunkSize": 65536,
                "changes": [[n, sha256(data[at:at + 65536]), len(data[at:at + 65536])] for n, at in enumerate(range(0, len(data), 65536))], **more}

    def write(self, name, data, parent=None):
        """A new file with its content in one batch; its ino."""
        made = self.create(name, parent)
        chunks = [data[at:at + 65536] for at in range(0, len(data), 65536)]
        results = self.batch(made, self.commit(made["ino"], data), contents=chunks)
        assert not any("error" in r for r in results), results
        return made["ino"]

    def lookup(self, name, parent=None):
        a = self.get("lookup", parent=parent or self.root, name=name)
        assert a.status == 200, a
        return a.json["attr"]

    def read(self, *files, inline=1 << 20):
        """(head, {sha256: stored bytes})"""
        a = self.call("POST", "/read", json={"drive": self.drive, "files": list(files), "inline": inline})
        assert a.status == 200, a
        n = int(a.headers["X-Cairn-Head"])
        head, rest, contents = json.loads(a.body[:n]), a.body[n:], {}
        for c in head["contents"]:
            contents[c["sha256"]], rest = rest[:c["stored"]], rest[c["stored"]:]
        assert rest == b""
        return head, contents
