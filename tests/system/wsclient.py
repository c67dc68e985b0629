"""A WebSocket client (RFC 6455) of the standard library alone, and STOMP and the driver's stream on top of it. Every wait has an end."""
import base64
import hashlib
import json
import os
import queue
import socket
import struct
import threading

WAIT = 30  # seconds; only a failing test waits so long


class Closed(Exception):
    def __init__(self, code, reason=""):
        super().__init__(f"closed: {code} {reason}")
        self.code, self.reason = code, reason


class Refused(Exception):
    def __init__(self, status):
        super().__init__(f"the upgrade was answered with {status}")
        self.status = status


class WebSocket:
    def __init__(self, port, path, protocols, headers=None):
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: {', '.join(protocols)}"]
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.rest = b""
        head = self._head()
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            self.socket.close()
            raise Refused(status)
        expect = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        assert expect in head, head
        self.protocol = next((line.split(b":", 1)[1].strip().decode() for line in head.split(b"\r\n")
                              if line.lower().startswith(b"sec-websocket-protocol:")), None)
        self.send_lock = threading.Lock()

    def _head(self):
        while b"\r\n\r\n" not in self.rest:
            more = self.socket.recv(4096)
            if not more:
                raise Refused(0)
            self.rest += more
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        return head

    def _read(self, n):
        while len(self.rest) < n:
            more = self.socket.recv(65536)
            if not more:
                raise Closed(1006)
            self.rest += more
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def send(self, payload, opcode=1, final=True):
        if isinstance(payload, str):
            payload = payload.encode()
        mask = os.urandom(4)
        n = len(payload)
        head = bytes([opcode | (128 if final else 0)])
        if n < 126:
            head += bytes([128 | n])
        elif n < 65536:
            head += bytes([128 | 126]) + struct.pack("!H", n)
        else:
            head += bytes([128 | 127]) + struct.pack("!Q", n)
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if n < 4096 else self._mask(payload, mask)
        with self.send_lock:
            self.socket.sendall(head + mask + masked)

    @staticmethod
    def _mask(payload, mask):
        n = len(payload)
        long = (mask * (n // 4 + 1))[:n]
        return (int.from_bytes(payload, "big") ^ int.from_bytes(long, "big")).to_bytes(n, "big")

    def receive(self, timeout=WAIT):
        """The next whole message; pings are answered; Closed when the other side ends."""
        self.socket.settimeout(timeout)
        message = b""
        while True:
            first, second = self._read(2)
            n = second & 127
            if n == 126:
                n = struct.unpack("!H", self._read(2))[0]
            elif n == 127:
                n = struct.unpack("!Q", self._read(8))[0]
            payload = self._read(n)
            opcode = first & 15
            if opcode == 8:
                code = struct.unpack("!H", payload[:2])[0] if n >= 2 else 1005
                raise Closed(code, payload[2:].decode(errors="replace"))
            if opcode == 9:
                self.send(payload, opcode=10)
                continue
            if opcode == 10:
                continue
            message += payload
            if first & 128:
                return message

    def close(self):
        """At once, as if the network had gone."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class Stomp:
    """One STOMP connection on /ws."""

    def __init__(self, gateway, token=None, version="1.2", connect=True, headers=None):
        self.ws = WebSocket(gateway.port, "/ws", [f"v{version.replace('.', '')}.stomp"])
        self.received = b""
        if connect:
            sent = {"accept-version": version, "host": "cairn", "Authorization": f"Bearer {gateway.token if token is None else token}"}
            sent.update(headers or {})
            self.send("CONNECT", sent, escape=False)
            self.connected = self.frame()
            assert self.connected[0] == "CONNECTED", self.connected

    @staticmethod
    def encode(command, headers=None, body=b"", escape=True):
        def e(s):
            return s.replace("\\", "\\\\").replace("\n", "\\n").replace(":", "\\c") if escape else s
        return (command + "\n" + "".join(f"{e(k)}:{e(v)}\n" for k, v in (headers or {}).items()) + "\n").encode() + body + b"\0"

    def send(self, command, headers=None, body=b"", escape=True):
        self.ws.send(self.encode(command, headers, body, escape))

    def frame(self, timeout=WAIT):
        """(command, headers, body) of the next frame; heart-beats are skipped."""
        while True:
            message = self.ws.receive(timeout).lstrip(b"\n")
            if not message:
                continue
            head, body = message.split(b"\n\n", 1)
            lines = head.decode().split("\n")
            headers = {}
            for line in lines[1:]:
                k, v = line.split(":", 1)
                headers.setdefault(k, v.replace("\\n", "\n").replace("\\c", ":").replace("\\\\", "\\"))
            assert body.endswith(b"\0")
            return lines[0], headers, body[:-1]

    def subscribe(self, destination, id="s", **headers):
        """Returns once the gateway has confirmed it."""
        self.send("SUBSCRIBE", {"id": id, "destination": destination, "receipt": f"r-{id}", **headers})
        command, got, _ = self.frame()
        assert (command, got.get("receipt-id")) == ("RECEIPT", f"r-{id}"), (command, got)
        return self

    def message(self, timeout=WAIT):
        command, headers, body = self.frame(timeout)
        assert command == "MESSAGE", (command, headers, body)
        return headers, json.loads(body)

    def error(self):
        command, headers, _ = self.frame()
        assert command == "ERROR", (command, headers)
        try:
            self.ws.receive()
        except Closed:
            return headers
        raise AssertionError("the connection stays open after ERROR")

    def close(self):
        self.ws.close()


class Stream:
    """A mount's stream. By default it acknowledges what it is told at once, as a mount does whose kernel holds nothing."""

    def __init__(self, gateway, mount, since=0, acknowledge=True, token=None, hello=True):
        self.ws = WebSocket(gateway.port, "/api/v1/fs/v1/stream", ["cairn.fs.v1"],
                            {"Authorization": f"Bearer {gateway.token if token is None else token}"})
        self.acknowledge = acknowledge
        self.messages = queue.Queue()
        self.beats, self.seen = 0, since
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if hello:
            self.say(t="hello", drive=mount["drive"], session=mount["session"], since=since)
            self.welcome = self.next("welcome")["seq"]
            self.seen = self.welcome

    def say(self, **message):
        self.ws.send(json.dumps(message))

    def ack(self, seq):
        self.seen = max(self.seen, seq)
        self.say(t="ack", seq=seq)

    def beat(self):
        self.beats += 1
        self.say(t="beat", id=self.beats, seq=self.seen)
        return self.beats

    def lease(self):
        """Asks for one and waits until it is there."""
        id = self.beat()
        while self.next("lease")["id"] != id:
            pass

    def _read(self):
        try:
            while True:
                m = json.loads(self.ws.receive(timeout=60))
                if m["t"] == "inval" and self.acknowledge:
                    self.ack(m["seq"])
                self.messages.put(m)
        except (Closed, OSError) as e:
            self.messages.put({"t": "closed", "code": getattr(e, "code", 1006)})

    def next(self, kind, timeout=WAIT):
        """The next message of that kind; others are skipped."""
        while True:
            m = self.messages.get(timeout=timeout)
            if m["t"] == kind:
                return m
            assert m["t"] != "closed", m

    def nothing(self, kind):
        """What was said up to now, pulled through by a beat, holds no message of that kind."""
        self.say(t="beat", id=0, seq=self.seen)
        while True:
            m = self.messages.get(timeout=WAIT)
            assert m["t"] != kind, m
            if m["t"] == "lease" and m["id"] == 0:
                return

    def close(self):
        self.ws.close()
        self.reader.join(WAIT)
