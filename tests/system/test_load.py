"""The load generator, on small counts: what it reports is what happened."""
import json
import os
import subprocess

from harness import BIN, ROOT


def bench(*args):
    return subprocess.run([os.path.join(ROOT, "scripts", "bench"), "load", "--bin", BIN, "--json", *args], capture_output=True, text=True, timeout=120)


def test_every_load_ends_by_itself_and_nothing_fails():
    done = bench("--load-uploads", "20", "--load-downloads", "50", "--load-subscribers", "100", "--load-mib", "16", "--load-seconds", "100", "--load-files", "5",
                 "--load-events", "150")
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)["load"]
    rows = {name: {k: (r["count"], r["failed"]) for k, r in load["rows"].items()} for name, load in found.items()}
    assert rows["metadata queries"]["GET"][0] > 0
    assert rows["uploads at once"] == {"initiate": (20, 0), "chunk": (20, 0), "complete": (20, 0), "read back": (20, 0)}
    assert rows["downloads at once"] == {"GET": (100, 0)}
    assert found["downloads at once"]["bytes"] == 100 * (16 << 10)
    assert rows["one large upload"] == {"initiate": (1, 0), "chunk": (4, 0), "complete": (1, 0), "read back": (1, 0)}
    assert rows["subscribers"] == {"subscribe": (100, 0), "event": (300, 0), "put": (3, 0)}
    assert all(load["notEnded"] == 0 for load in found.values())


def load(gateway, kind, *args):
    program = os.path.join(BIN, "cairn-load")
    return subprocess.run([program, kind, "--url", gateway.url, "--token", gateway.token, *args], capture_output=True, text=True, timeout=60)


def test_what_fails_is_said(gateway, folder):
    """A wrong hash, a path that is not there, and nobody at the port: each counts as failed, and the exit status says so."""
    subprocess.run([os.path.join(ROOT, "scripts", "lib", "build"), "release", "cairn-load"], check=True)
    gateway.api("PUT", "/files/content" + gateway.query(drive=gateway.drive, path="/f"), body=b"content")
    targets = os.path.join(folder, "targets")
    for line, why in ((f"/api/v1/files/content?drive=home&path=/f {'0' * 64}", "the content is not what it should be"),
                      ("/api/v1/files?drive=home&path=/nothing", "status 404")):
        with open(targets, "w") as f:
            f.write(line + "\n")
        done = load(gateway, "get", "--targets", targets, "--count", "10", "--connections", "2", "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["rows"]["GET"]["failed"] == 10 and json.loads(done.stdout)["firstFailure"] == why
    gateway.stop()
    done = load(gateway, "subscribe", "--drive", "home", "--connections", "3", "--events", "1", "--limit", "5")
    assert done.returncode == 1 and "refused" in done.stdout
