"""Programs that work in mounts, and clients that upload, while a test takes things away from them. None of what they do may fail or show anything stale."""
import hashlib
import os
import sys
import time
import traceback

from harness import Program, wait_for

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "system"))
from wsclient import Closed, Refused, Stomp  # noqa: E402

MIB = 1 << 20


class Rounds(Program):
    """One goes round after round, until its load ends or anything fails."""

    def __init__(self, load, round, *args):
        super().__init__()
        self.load, self.round, self.args, self.done = load, round, args, 0
        self.name = " ".join(map(str, (round.__name__, *args[2:])))

    def programs(self):
        while not self.load.ending and not self.load.failed:
            try:
                self.round(self.done, *self.args)
            except Exception as e:  # whatever it is, the test is to say so
                self.load.failed.append(f"{self.name} {self.done}: {e!r}\n{traceback.format_exc()}")
            self.done += 1


class Load:
    """Threads that work until `end`; what fails stays in `failed`."""

    def __init__(self):
        self.ending, self.failed, self.threads = False, [], []

    def run(self, round, *args):
        return self.add(Rounds(self, round, *args))

    def add(self, thread):
        self.threads.append(thread)
        thread.start()
        return self

    def goes_on(self, rounds=20, seconds=60):
        """So many more are done, from now on, and no thread stands still: each has ended two."""
        before = [t.done for t in self.threads]

        def more():
            return [t.done - n for t, n in zip(self.threads, before)]
        try:
            wait_for(lambda: self.failed or sum(more()) >= rounds and min(more()) >= 2, "the load going on", seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}; done: {dict(zip((t.name for t in self.threads), more()))}") from None
        assert not self.failed, self.failed

    def end(self):
        self.ending = True
        for t in self.threads:
            t.join(90)
            assert not t.is_alive(), "a call hangs"
        assert not self.failed, self.failed


class Watcher(Program):
    """Hears of the changes of a drive, in `heard`. When its connection ends, or says nothing for a while, it makes another one and reads in the log what it missed meanwhile."""
    SILENCE = 5

    def __init__(self, load, client):
        super().__init__()
        self.load, self.client, self.name = load, client, "watcher"
        self.heard, self.done, self.connections = [], 0, 0
        self.since = self.cursor = self.seq()

    def seq(self):
        return next(d["seq"] for d in retried(self.client, "GET", "/drives").json["drives"] if d["name"] == self.client.drive)

    def log(self, since):
        """What came after it."""
        while True:
            page = retried(self.client, "GET", "/changes" + self.client.query(drive=self.client.drive, since=since, limit=1000))
            assert page.status == 200, page
            yield from page.json["changes"]
            since = page.json["next"]
            if not page.json["more"]:
                return

    def programs(self):
        while not self.load.failed:
            try:
                self.listen()
            except TimeoutError:
                if self.load.ending and not any(t.is_alive() for t in self.load.threads if t is not self) and not any(self.log(self.cursor)):
                    return
            except (Closed, Refused, OSError):
                time.sleep(0.1)
            except Exception as e:
                self.load.failed.append(f"{self.name}: {e!r}")

    def listen(self):
        stomp = Stomp(self.client)
        try:
            stomp.subscribe("/topic/file-changes", drive=self.client.drive)
            self.connections += 1
            for change in self.log(self.cursor):
                self.hear(change)
            while True:
                change = stomp.message(self.SILENCE)[1]
                if change["seq"] > self.cursor:  # not what the log said already
                    self.hear(change)
                    self.done += 1
        finally:
            stomp.close()

    def hear(self, change):
        self.cursor = change["seq"]
        self.heard.append((change["seq"], change["kind"], change["path"]))

    def missed_nothing(self):
        """Once its load has ended."""
        log = [(c["seq"], c["kind"], c["path"]) for c in self.log(self.since)]
        assert self.heard == log, f"missed: {sorted(set(log) - set(self.heard))[:5]}, out of turn: {sorted(set(self.heard) - set(log))[:5]}"
        return log


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
    """As a client does that was told that nobody is there, or not told anything for longer than what it asks for may take: again, for a while."""
    end = time.monotonic() + 60
    while True:
        try:
            answer = client.api(*args, timeout=15, **kwargs)
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
