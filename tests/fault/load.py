"""Programs that work in mounts, and clients that upload, while a test takes things away from them. None of what they do may fail or show anything stale."""
import hashlib
import os
import threading
import time

from harness import Program, wait_for

MIB = 1 << 20


class Load:
    """Threads that go round after round until `end`; the first failure of each stays in `failed`."""

    def __init__(self):
        self.ending, self.done, self.failed, self.lock, self.threads = False, 0, [], threading.Lock(), []

    def run(self, round, *args):
        def go():
            n = 0
            while not self.ending and not self.failed:
                try:
                    round(n, *args)
                except Exception as e:  # whatever it is, the test is to say so
                    self.failed.append(f"{round.__name__}{args} {n}: {e!r}")
                n += 1
                with self.lock:
                    self.done += 1
        self.threads.append(Program(go))
        self.threads[-1].start()
        return self

    def goes_on(self, rounds=20, seconds=60):
        """So many more are done, from now on."""
        n = self.done
        wait_for(lambda: self.failed or self.done >= n + rounds, "the load going on", seconds)
        assert not self.failed, self.failed

    def end(self):
        self.ending = True
        for t in self.threads:
            t.join(90)
            assert not t.is_alive(), "a call hangs"
        assert not self.failed, self.failed


def in_two_mounts(n, a, b, name):
    """What one finished the other sees, at once: a new file, its name, another content, its end."""
    first, second = f"{name}-{n}", f"{name}-{n}-renamed"
    assert not os.path.exists(b / first)
    with open(a / first, "w") as f:
        f.write(f"{n}")
    with open(b / first) as f:
        assert f.read() == f"{n}"
    os.rename(b / first, b / second)
    assert not os.path.exists(a / first) and os.path.getsize(a / second) == len(f"{n}")
    with open(a / second, "a") as f:
        f.write("more")
    with open(b / second) as f:
        assert f.read() == f"{n}more"
    os.unlink(b / second)
    assert not os.path.exists(a / second)


def retried(client, *args, **kwargs):
    """As a client does that was told that nobody is there: again, for a while."""
    end = time.monotonic() + 40
    while True:
        try:
            answer = client.api(*args, **kwargs)
            if answer.status not in (502, 503, 504) or time.monotonic() > end:
                return answer
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)


def upload(n, client, name):
    """A resumable upload of two chunks, and the file from another request."""
    body = hashlib.sha256(f"{name}{n}".encode()).digest() * (3 * MIB // 2 // 32)
    made = retried(client, "POST", "/upload/initiate", json={"drive": client.drive, "path": f"/{name}", "size": len(body), "chunkSize": MIB})
    assert made.status == 201, made
    base = f"/upload/{made.json['sessionId']}"
    for i in range(made.json["totalChunks"]):
        sent = retried(client, "POST", f"{base}/chunk/{i}", body=body[i * MIB:(i + 1) * MIB])
        assert sent.status == 200, sent
    done = retried(client, "POST", f"{base}/complete", json={"sha256": hashlib.sha256(body).hexdigest()})
    assert done.status == 200, done
    got = retried(client, "GET", "/files/content" + client.query(drive=client.drive, path=f"/{name}"))
    assert got.status == 200 and got.body == body, got
