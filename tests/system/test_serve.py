"""The program itself: how it starts, what it refuses, how it ends; and what operators do beside it."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import program, tail, wait_for


def run(*args, env=None, input=None):
    return subprocess.run([program("cairn-gateway"), *args], capture_output=True, text=True, input=input, timeout=60,
                          env={**{k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}, **(env or {})})


@pytest.mark.parametrize("args, env, says", [
    (["fly"], {}, "fly"),
    (["serve"], {}, "--embedded"),
    (["serve", "--embedded", "/tmp", "--listen", "nowhere"], {}, '--listen "nowhere"'),
    (["serve", "--embedded", "/tmp", "--workers", "2"], {}, "--workers 2"),
    (["serve", "--embedded", "/tmp"], {"CAIRN_RATE_LIMIT": "lots"}, '$CAIRN_RATE_LIMIT "lots"'),
    (["config", "check", "--embedded", "/tmp"], {"CAIRN_LOG_LEVEL": "x"}, "$CAIRN_LOG_LEVEL"),
    (["admin", "user", "fly", "--embedded", "/tmp/never"], {}, "user fly"),
    (["admin", "user", "add", "--embedded", "/tmp/never"], {}, "NAME"),
    (["admin"], {"CAIRN_EMBEDDED": "/tmp/never"}, "drive create"),
])
def test_what_is_wrong_is_named_at_start(args, env, says):
    done = run(*args, env=env)
    assert done.returncode == 2
    assert says in done.stderr
    assert not os.path.exists("/tmp/never")


def test_help_names_each_option_and_its_variable():
    assert "serve" in run("--help").stdout
    text = run("serve", "--help").stdout
    for word in ("--listen", "$CAIRN_LISTEN", "--embedded", "$CAIRN_EMBEDDED", "--rate-limit"):
        assert word in text
    assert run("serve", "--help").returncode == 0


def test_config_check_prints_what_is_in_effect(folder):
    done = run("config", "check", env={"CAIRN_EMBEDDED": folder, "CAIRN_LISTEN": "0.0.0.0:81"})
    assert done.returncode == 0
    assert f"meta=sqlite:{folder}/meta.db" in done.stdout and "listen=0.0.0.0:81" in done.stdout
    assert os.listdir(folder) == []


@pytest.mark.embedded("the folder and what lies in it")
def test_it_says_where_it_listens(gateway):
    lines = [json.loads(line) for line in open(gateway.log)]
    assert all({"ts", "level", "msg"} <= set(line) for line in lines)
    assert f"listening on {gateway.url}" in [line["msg"] for line in lines]
    assert open(os.path.join(gateway.data, "port")).read() == f"{gateway.port}\n"


@pytest.mark.embedded("the folder and what lies in it")
def test_a_second_gateway_on_the_folder_is_refused(gateway):
    second = run("serve", "--embedded", gateway.data, "--listen", "127.0.0.1:0")
    assert second.returncode == 1
    assert "another gateway" in second.stderr
    assert gateway.api("GET", "/drives").status == 200
    # after a crash nothing is in the way
    gateway.kill()
    gateway.start()


def test_a_port_that_is_taken(folder):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        done = run("serve", "--embedded", folder, "--listen", f"127.0.0.1:{s.getsockname()[1]}")
    assert done.returncode == 1 and "cannot listen" in done.stderr


def test_sigterm_lets_running_requests_end(gateway):
    """A long poll is waiting when the gateway is told to end: it is answered, and then the gateway has gone with status 0."""
    seq = gateway.api("GET", "/drives").json["drives"][0]["seq"]
    answers = []
    poll = threading.Thread(target=lambda: answers.append(gateway.api("GET", f"/changes?drive=home&since={seq}&wait=60")))
    poll.start()
    time.sleep(2)
    assert gateway.stop() == 0  # it waits for 20 s, and the gateway would for 30
    poll.join()
    assert answers[0].status == 200 and answers[0].json["changes"] == []
    assert not os.path.exists(os.path.join(gateway.data, "port"))  # of an embedded one


def test_a_second_signal_ends_it_at_once(gateway):
    """A client that sends its body too slowly would hold the drain."""
    with socket.create_connection(("127.0.0.1", gateway.port)) as s:
        s.sendall(f"PUT /api/v1/files/content?drive=home&path=/slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token}\r\nContent-Length: 1000000\r\n\r\n".encode())
        s.sendall(b"x" * 1000)
        time.sleep(0.3)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        if gateway.process.poll() is None:
            gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(20)  # the drain ends after 30 s
        gateway.ended = True
    gateway.start()
    assert gateway.api("GET", "/files" + gateway.query(drive="home", path="/slow")).status == 404


def test_operators_work_beside_a_running_gateway(gateway):
    gateway.add_user("bob", admin=True)
    users = {u["name"]: u for u in json.loads(gateway.admin("user", "list", "--json").stdout)["users"]}
    assert users["bob"]["admin"] and not users["ann"]["admin"] and not users["bob"]["disabled"]
    assert gateway.admin("user", "list").stdout.split("\n")[0].startswith("ann")
    gateway.add_drive("Bilder 2026", "bob")
    gateway.admin("drive", "quota", "Bilder 2026", "10G")
    gateway.admin("drive", "rename", "Bilder 2026", "pictures")
    drives = {d["name"]: d for d in json.loads(gateway.admin("drive", "list", "--json").stdout)["drives"]}
    assert drives["pictures"]["owner"] == "bob" and drives["pictures"]["quota"] == 10 << 30
    seen = gateway.api("GET", "/drives", token=gateway.token_of("bob")).json["drives"]
    assert [d["name"] for d in seen] == ["pictures"] and seen[0]["quota"] == 10 << 30


@pytest.mark.parametrize("args, says", [
    (["user", "add", "ann", "--password-stdin"], "already"),
    (["user", "add", "-x", "--password-stdin"], "-x"),
    (["user", "add", "a b", "--password-stdin"], "letters, digits"),
    (["user", "disable", "nobody"], "no user"),
    (["drive", "create", "home", "--owner", "ann"], "already"),
    (["drive", "create", "a/b", "--owner", "ann"], "'/'"),
    (["drive", "create", "x", "--owner", "nobody"], "no user"),
    (["drive", "create", "x"], "--owner"),
    (["drive", "quota", "home", "lots"], "lots"),
    (["drive", "quota", "nowhere", "1G"], "no drive"),
    (["drive", "rename", "home", "."], "dot"),
])
def test_operators_are_told_what_is_wrong(gateway, args, says):
    done = gateway.admin(*args, input="secret word\n", check=False)
    assert done.returncode in (1, 2) and says in done.stderr


def test_two_drives_of_one_name(gateway):
    gateway.add_user("bob")
    gateway.add_drive("home", "bob")
    done = gateway.admin("drive", "quota", "home", "1G", check=False)
    assert done.returncode == 1 and "--owner" in done.stderr
    gateway.admin("drive", "quota", "home", "1G", "--owner", "bob")
    quotas = {d["owner"]: d["quota"] for d in json.loads(gateway.admin("drive", "list", "--json").stdout)["drives"]}
    assert quotas == {"ann": 0, "bob": 1 << 30}


def test_an_empty_password_is_none(gateway):
    assert gateway.admin("user", "add", "eve", "--password-stdin", input="\n", check=False).returncode == 1
    assert gateway.admin("user", "add", "eve", "--password-stdin", input="", check=False).returncode == 1


def test_a_password_is_asked_for_on_the_terminal(gateway):
    """Twice, and without showing it."""
    import pty
    pid, fd = pty.fork()
    if pid == 0:
        path = program("cairn-gateway")
        os.execv(path, [path, "admin", "user", "add", "tess", *gateway.only("--embedded", "--meta")])
    shown = b""
    for prompt in (b"Password: ", b"Again: "):
        while not shown.endswith(prompt):
            shown += os.read(fd, 100)
        wait_for(lambda: not echoes(fd), "the terminal to be quiet")
        os.write(fd, b"on the terminal\n")
    while True:
        try:
            data = os.read(fd, 100)
        except OSError:
            break
        if not data:
            break
        shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    assert b"on the terminal" not in shown
    assert gateway.api("POST", "/auth/login", json={"username": "tess", "password": "on the terminal"}, token="").status == 200


def echoes(fd):
    import termios
    return termios.tcgetattr(fd)[3] & termios.ECHO


def test_the_descriptions_name_what_is_there(gateway):
    """Each path of the description is answered by something other than "no such endpoint"."""
    text = gateway.api("GET", "/openapi.yaml", token="").body.decode()
    paths = re.findall(r"^  (/[^:]+):$", text, re.M)
    assert len(paths) > 20 and len(set(paths)) == len(paths)
    for path in paths:
        where = path.replace("{sessionId}", "00000000-0000-7000-8000-000000000000").replace("{n}", "0")
        answer = gateway.api("GET", where)
        assert not (answer.status == 404 and answer.code == "no-such-endpoint"), path


@pytest.mark.parametrize("gateway", [["--rate-limit", "5", "--trusted-proxies", "1"]], indirect=True)
def test_each_client_of_a_proxy_is_limited_for_itself(gateway):
    """What nginx adds counts, not what a client says before that."""
    def asked(address, times):
        return [gateway.api("GET", "/openapi.yaml", headers={"X-Forwarded-For": f"{n}.1.1.1, {address}"}, token="").status for n in range(times)]
    assert 429 in asked("10.0.0.1", 100)
    assert set(asked("10.0.0.2", 5)) == {200}


@pytest.mark.parametrize("gateway", [["--rate-limit", "5"]], indirect=True)
def test_one_user_is_limited(gateway):
    answers = [gateway.api("GET", "/drives") for _ in range(100)]
    limited = [a for a in answers if a.status == 429]
    assert limited and answers[0].status == 200
    assert int(limited[0].headers["Retry-After"]) >= 1, tail(gateway.log)
