"""Who may come in: log-in, access tokens, rotating refresh tokens, sessions."""
import base64
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import wait_for


def login(gateway, password=None, user=None, device="desk"):
    return gateway.api("POST", "/auth/login", json={"username": user or gateway.user, "password": password or gateway.password, "device": device}, token="")


def refresh(gateway, token, key=None):
    return gateway.api("POST", "/auth/refresh", json={"refreshToken": token}, token="", headers={"Idempotency-Key": key} if key else {})


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_login_gives_tokens_that_work(gateway):
    answer = login(gateway)
    assert answer.status == 200
    assert answer.json["tokenType"] == "Bearer" and answer.json["expiresIn"] == 900
    drives = gateway.api("GET", "/drives", token=answer.json["accessToken"])
    assert drives.status == 200
    (drive,) = drives.json["drives"]
    assert drive["name"] == "home" and drive["role"] == "owner" and drive["used"] == 0 and drive["seq"] >= 0


def test_wrong_password_and_unknown_user_look_alike(gateway):
    wrong, unknown = login(gateway, password="wrong"), login(gateway, user="nobody", password="wrong")
    for answer in (wrong, unknown):
        assert answer.status == 401 and answer.code == "bad-credentials"
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert wrong.json["detail"] == unknown.json["detail"]


def test_bodies_that_are_no_login_are_400(gateway):
    for body in ({}, {"username": "ann"}, {"username": 5, "password": "x"}, {"username": "ann", "password": ["x"]}, []):
        assert gateway.api("POST", "/auth/login", json=body, token="").status == 400
    assert gateway.api("POST", "/auth/login", body=b"{", token="").status == 400


def test_guessing_is_slowed_down(gateway):
    answers = [login(gateway, password=f"guess {i}") for i in range(15)]
    limited = [a for a in answers if a.status == 429]
    assert limited and answers[0].status == 401
    assert int(limited[0].headers["Retry-After"]) >= 1
    # even the right one waits now; other users do not
    assert login(gateway).status == 429
    gateway.add_user("bob")
    assert login(gateway, user="bob", password="bob's password").status == 200


def forged(header, claims, signature=b"x"):
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}.{b64(signature)}"


def test_only_our_own_access_tokens_are_taken(gateway):
    pair = login(gateway).json
    head, claims, signature = pair["accessToken"].split(".")
    body = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert body["typ"] == "access" and body["name"] == "ann" and body["dev"] == "desk" and body["exp"] - body["iat"] == 900
    bad = [
        "x", "..", "a.b.c", pair["refreshToken"],
        forged({"alg": "none", "typ": "JWT"}, body, b""), forged({"alg": "none"}, body, b"").rstrip("."),
        forged({"alg": "HS256", "typ": "JWT"}, body), forged({"alg": "HS512", "typ": "JWT"}, body),
        f"{head}.{b64(json.dumps({**body, 'adm': True}).encode())}.{signature}",
        pair["accessToken"][:-3], pair["accessToken"] + "A",
    ]
    for token in bad:
        answer = gateway.api("GET", "/drives", token=token)
        assert (answer.status, answer.code) == (401, "token-invalid"), token
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    missing = gateway.api("GET", "/drives", token="")
    assert (missing.status, missing.code) == (401, "token-missing")
    basic = gateway.api("GET", "/drives", token="", headers={"Authorization": "Basic YTpi"})
    assert (basic.status, basic.code) == (401, "token-missing")


def signed(gateway, claims, digest="sha256", **header):
    """With the gateway's own secret: what only a bug or a thief could make."""
    secret = gateway.place.secret("token")
    text = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT", **header}, claims))
    return f"{text}.{b64(hmac.new(secret, text.encode(), digest).digest())}"


def test_a_good_signature_is_not_enough(gateway):
    now = int(time.time())
    head, claims, _ = login(gateway).json["accessToken"].split(".")
    good = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert gateway.api("GET", "/drives", token=signed(gateway, good)).status == 200
    without = {key: {k: v for k, v in good.items() if k != key} for key in good}
    for claims, code in (({**good, "exp": now - 1}, "token-expired"), ({**good, "exp": 0}, "token-expired"), (without["exp"], "token-expired"), ({**good, "exp": str(now + 900)}, None),
                         ({**good, "typ": "refresh"}, "token-invalid"), (without["typ"], "token-invalid"), (without["sub"], "token-invalid"), (without["sid"], "token-invalid"),
                         ({**good, "sub": "00000000-0000-7000-8000-000000000000"}, "token-invalid"), ({**good, "sid": "00000000-0000-7000-8000-000000000000"}, "token-invalid"),
                         ({**good, "sub": "ann"}, "token-invalid"), ({**good, "name": "n" * 10_000}, "token-invalid"), ({**good, "sub": ["x"]}, "token-invalid"), ([], "token-invalid"), (5, "token-invalid")):
        answer = gateway.api("GET", "/drives", token=signed(gateway, claims))
        assert answer.status == 401 and code in (None, answer.code), (claims, answer)
    for header in ({"alg": "none"}, {"alg": "hs256"}, {"alg": "RS256"}, {"typ": "at+jwt"}, {"alg": None}, {"alg": ["HS256"]}):
        assert gateway.api("GET", "/drives", token=signed(gateway, good, **header)).code == "token-invalid", header
    assert gateway.api("GET", "/drives", token=signed(gateway, good, "sha512", alg="HS512")).code == "token-invalid"


def test_a_refresh_token_serves_once(gateway):
    first = login(gateway).json
    second = refresh(gateway, first["refreshToken"])
    assert second.status == 200 and second.json["refreshToken"] != first["refreshToken"]
    again = refresh(gateway, first["refreshToken"])
    assert (again.status, again.code) == (401, "refresh-reused")
    # whoever has the newer one may be the thief: the family has ended
    assert refresh(gateway, second.json["refreshToken"]).status == 401


def test_a_lost_answer_can_be_asked_for_again(gateway):
    first = login(gateway).json
    a, b = refresh(gateway, first["refreshToken"], "k1"), refresh(gateway, first["refreshToken"], "k1")
    assert a.status == b.status == 200 and a.json == b.json
    assert refresh(gateway, a.json["refreshToken"], "k2").status == 200
    assert refresh(gateway, first["refreshToken"], "k3").status == 401


def test_of_many_at_once_one_wins(gateway):
    token = login(gateway).json["refreshToken"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: refresh(gateway, token), range(8)))
    assert sorted(a.status for a in answers) == [200] + [401] * 7


def test_logout_ends_the_session(gateway):
    pair = login(gateway).json
    assert gateway.api("POST", "/auth/logout", token=pair["accessToken"]).status == 204
    assert refresh(gateway, pair["refreshToken"]).status == 401
    assert gateway.api("GET", "/drives", token=pair["accessToken"]).status == 401


def test_sessions_are_listed_and_ended_one_by_one(gateway):
    desk, phone = login(gateway, device="desk").json, login(gateway, device="phone").json
    answer = gateway.api("GET", "/auth/sessions", token=desk["accessToken"])
    sessions = {s["device"]: s for s in answer.json["sessions"]}
    assert sessions["desk"]["current"] and not sessions["phone"]["current"]
    assert gateway.api("DELETE", "/auth/sessions?id=" + sessions["phone"]["id"], token=desk["accessToken"]).status == 204
    assert refresh(gateway, phone["refreshToken"]).status == 401
    assert refresh(gateway, desk["refreshToken"]).status == 200
    assert gateway.api("DELETE", "/auth/sessions?id=nonsense", token=gateway.token).status == 400
    assert gateway.api("DELETE", "/auth/sessions?id=00000000-0000-7000-8000-000000000000", token=gateway.token).status == 404


def test_one_cannot_end_anothers_session(gateway):
    gateway.add_user("bob")
    bob = login(gateway, user="bob", password="bob's password").json
    (session,) = gateway.api("GET", "/auth/sessions", token=bob["accessToken"]).json["sessions"]
    assert gateway.api("DELETE", "/auth/sessions?id=" + session["id"]).status == 404
    assert refresh(gateway, bob["refreshToken"]).status == 200


def test_a_new_password_ends_the_other_sessions(gateway):
    here, there = login(gateway).json, login(gateway, device="lost laptop").json
    wrong = gateway.api("POST", "/auth/password", json={"old": "wrong", "new": "another one"}, token=here["accessToken"])
    assert wrong.status == 403 and wrong.code == "bad-credentials"
    short = gateway.api("POST", "/auth/password", json={"old": gateway.password, "new": "short"}, token=here["accessToken"])
    assert short.status == 422 and short.code == "bad-password"
    assert gateway.api("POST", "/auth/password", json={"old": gateway.password, "new": "another one"}, token=here["accessToken"]).status == 204
    assert refresh(gateway, there["refreshToken"]).status == 401
    assert refresh(gateway, here["refreshToken"]).status == 200
    assert login(gateway).status == 401
    assert login(gateway, password="another one").status == 200


def test_a_disabled_user_is_out_within_seconds(gateway):
    pair = login(gateway).json
    assert gateway.api("GET", "/drives", token=pair["accessToken"]).status == 200
    gateway.admin("user", "disable", "ann")
    end = time.monotonic() + 8
    while gateway.api("GET", "/drives", token=pair["accessToken"]).status == 200:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert login(gateway).status == 401
    assert refresh(gateway, pair["refreshToken"]).status == 401


def test_tokens_outlive_a_restart(gateway):
    pair = login(gateway).json
    assert gateway.stop() == 0
    gateway.start()
    assert gateway.api("GET", "/drives", token=pair["accessToken"]).status == 200
    assert refresh(gateway, pair["refreshToken"]).status == 200


def test_drives_are_found_by_id_and_by_name(gateway):
    (drive,) = gateway.api("GET", "/drives").json["drives"]
    for name in (drive["id"], drive["name"]):
        assert gateway.api("GET", "/files" + gateway.query(drive=name, path="/")).status == 200
    gateway.add_user("bob")
    gateway.add_drive("bobs", "bob")
    bob = gateway.token_of("bob")
    (his,) = gateway.api("GET", "/drives", token=bob).json["drives"]
    for name in (his["id"], "bobs", "no such drive"):
        answer = gateway.api("GET", "/files" + gateway.query(drive=name, path="/"))
        assert (answer.status, answer.code) == (404, "drive-not-found")
    assert gateway.api("GET", "/files?path=/").status == 400


@pytest.mark.parametrize("path, code", [
    ("a", "bad-path"), ("", "bad-path"), ("/a/../b", "bad-path"), ("/./a", "bad-path"), ("/a//b", "bad-path"), ("/" + "x" * 256, "bad-path"),
    ("/a\0b", "bad-path"), (b"/caf\xe9", "bad-utf8"),
])
def test_paths_that_are_none(gateway, path, code):
    answer = gateway.api("GET", "/files" + gateway.query(drive="home", path=path))
    assert (answer.status, answer.code) == (400, code)


def test_health_and_metrics_need_no_token(gateway):
    health = wait_for(lambda: (a := gateway.api("GET", "/actuator/health", token="")).json["status"] == "UP" and a, "the broker's connection")
    assert health.status == 200
    assert set(health.json["components"]) >= {"metadata", "objects", "cache", "events"}
    for path in ("/actuator/health/liveness", "/actuator/health/readiness", "/actuator/info", "/swagger-ui.html", "/openapi.yaml"):
        assert gateway.api("GET", path, token="").status == 200, path
    a, b = gateway.api("GET", "/metrics", token=""), gateway.api("GET", "/actuator/prometheus", token="")
    assert a.status == b.status == 200 and b"# TYPE" in a.body
    assert a.headers["Content-Type"].startswith("text/plain")
