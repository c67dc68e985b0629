"""HTTP as bytes on a socket: for requests that no library would send."""
import socket


class Raw:
    def __init__(self, gateway, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def all(self):
        """Everything until the gateway closes."""
        got = b""
        try:
            while piece := self.socket.recv(1 << 16):
                got += piece
        except ConnectionResetError:
            pass
        return got

    def head(self):
        """The status of the next answer, without reading beyond its head."""
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            piece = self.socket.recv(1)
            if not piece:
                return 0
            got += piece
        return int(got.split()[1])


def statuses(answers):
    """The status of each answer in what came back on one connection."""
    return [int(line.split()[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def request(gateway, method, path, body=b"", headers=(), token=None):
    """A well-formed request's bytes; later headers may spoil it."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {gateway.token if token is None else token}", *headers]
    if not any(h.lower().startswith(("content-length", "transfer-encoding")) for h in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
