"""The files that Cairn is deployed with: each is what it should be, and all that they name exists in the program."""
import base64
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from composefile import compose_file, make_env
from harness import ROOT, Gateway, program, wait_for

sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))
from servers.base import go_program, reserve_port  # noqa: E402
from servers.nginx import upstream  # noqa: E402
from wsclient import Stomp  # noqa: E402

SERVER = os.path.join(ROOT, "scripts", "lib", "server")
DOCKERFILES = ["docker/Dockerfile", "docker/clamd/Dockerfile", "docker/minio/Dockerfile", "docker/nginx/Dockerfile"]
SCRIPTS = ["docker/make-env", "docker/packages-of", "docker/gateway-start", "docker/clamd/start", "docker/clamd/healthy", "docker/minio/make-bucket", "docker/nginx/start",
           "docker/postgres/member", "k8s/make-secrets"]
ADDED = {"CAIRN_ADVERTISE_PORT"}  # read by docker/gateway-start, not by the program


def path(*parts):
    return os.path.join(ROOT, *parts)


def source(*parts):
    with open(path(*parts)) as f:
        return f.read()


def run(*command, **kw):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, **kw).stdout


def variables(verb):
    """The $CAIRN_… that a verb of the gateway knows."""
    return set(re.findall(r"\[\$(CAIRN_\w+)\]", run(program("cairn-gateway"), *verb.split(), "--help")))


# ---- compose ----

@pytest.fixture(scope="module")
def compose():
    return compose_file(make_env())


def test_the_compose_file(compose):
    services = compose["services"]
    assert {"nginx", "gateway", "worker", "migrate", "clamd", "postgres", "postgres-replica", "redis", "rabbitmq", "minio"} <= set(services)
    assert services["gateway"]["deploy"]["replicas"] == 3 and "ports" not in services["gateway"] and "container_name" not in services["gateway"]  # --scale
    for name, s in services.items():
        limits = s["deploy"]["resources"]["limits"]
        assert limits["cpus"] and limits["memory"], name
        assert s["restart"] in ("unless-stopped", "no") and s["networks"] and "privileged" not in s, name
        assert "no-new-privileges:true" in s["security_opt"], name
        assert set(s["networks"]) <= set(compose["networks"]), name
        for mount in s.get("volumes", []):
            what = mount.split(":")[0]
            assert what.startswith("/") or what in compose["volumes"] or os.path.exists(path("docker", what)), (name, what)
        build = s.get("build")
        if build:
            assert build["dockerfile"] in DOCKERFILES, name
            assert not build.get("target") or f" AS {build['target']}\n" in source(build["dockerfile"])
        for other, how in s.get("depends_on", {}).items():
            one_shot = services[other]["restart"] == "no"
            checked = services[other].get("healthcheck", {}).get("test") or services[other].get("build")
            assert how["condition"] == "service_completed_successfully" if one_shot else how["condition"] == "service_started" or checked, (name, other)
    assert compose["networks"]["back"]["internal"] is True
    assert "maxmemory-policy allkeys-lru" in " ".join(services["redis"]["command"])


def test_it_starts_in_order(compose):
    """Database, schema, gateways, nginx; without a circle."""
    order = []

    def visit(name, above=()):
        assert name not in above, f"a circle: {above}"
        for other in compose["services"][name].get("depends_on", {}):
            visit(other, (*above, name))
        if name not in order:
            order.append(name)
    for name in compose["services"]:
        visit(name)
    at = order.index
    assert at("postgres") < at("migrate") < at("gateway") < at("nginx") and at("minio") < at("bucket") < at("gateway") and at("migrate") < at("worker")
    assert compose["services"]["gateway"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert compose["services"]["nginx"]["depends_on"]["gateway"]["condition"] == "service_healthy"


def test_compose_gives_programs_what_they_know(compose):
    for name in ("gateway", "worker", "migrate"):
        s = compose["services"][name]
        (verb,) = s["command"]
        assert verb in ("serve", "worker", "migrate")
        assert set(s["environment"]) <= variables(verb) | (ADDED if verb == "serve" else set()), name
        # stores have one form everywhere, and every one is given to who needs it
        needed = {"serve": {"CAIRN_META", "CAIRN_OBJECTS", "CAIRN_CACHE", "CAIRN_EVENTS", "CAIRN_SCANNER"}, "worker": {"CAIRN_META", "CAIRN_OBJECTS", "CAIRN_EVENTS", "CAIRN_SCANNER"},
                  "migrate": {"CAIRN_META"}}[verb]
        assert needed <= set(s["environment"]) and needed <= variables(verb), name
    hosts = set(re.findall(r"(?:@|//|,)([a-z][a-z-]*):\d{2,5}(?![\w@])", " ".join(str(v) for s in compose["services"].values() for v in (s.get("environment") or {}).values())))
    assert hosts - {"localhost"} <= set(compose["services"]), "a host that is no service"


def test_docs_say_what_programs_refuse(compose):
    """Values, not only names: either a gateway takes what compose gives it, or docs/deployment.md says that it does not yet."""
    refused = set()
    for name in ("gateway", "worker", "migrate"):
        for variable, value in compose["services"][name]["environment"].items():
            given = {k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}
            done = subprocess.run([program("cairn-gateway"), "config", "check", "--embedded", "/tmp"] if variable != "CAIRN_META" else [program("cairn-gateway"), "config", "check"],
                                  env={**given, variable: str(value)}, capture_output=True, text=True)
            if done.returncode == 2 and f"${variable}" in done.stderr:
                refused.add(variable)
    missing = source("docs/deployment.md").partition("**Not there yet.**")[2].partition("## ")[0]
    said = {v for v, option in (("CAIRN_META", "--meta postgres://"), ("CAIRN_CACHE", "--cache redis://")) if option in missing}
    assert refused == said



# ---- images ----

@pytest.mark.parametrize("file", DOCKERFILES)
def test_an_image(file):
    text = re.sub(r"\\\n", " ", source(file))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    stages = [line.split(" AS ")[1] for line in lines if line.startswith("FROM") and " AS " in line]
    finals = [block for block in re.split(r"(?m)^FROM ", "\n".join(lines)) if "ENTRYPOINT" in block]
    assert finals
    for block in finals:
        users = re.findall(r"(?m)^USER (\d+):(\d+)$", block)
        assert users and int(users[-1][0]) >= 10000, "root, or a user by name, which Kubernetes cannot check"
        assert "HEALTHCHECK" in block
        assert "build-essential" not in block and "golang" not in block
        assert not block.split("\n")[0].endswith(":latest")
    for line in lines:
        base = re.match(r"FROM (\S+)", line)
        assert not base or ":" in base[1] or base[1] in stages, line
        if "apt-get install" in line:
            assert "--no-install-recommends" in line and "rm -rf /var/lib/apt/lists" in line, line
        copied = re.match(r"COPY (?!--from)(.*) \S+$", line)
        for what in copied[1].split() if copied else []:
            assert what == "." or os.path.exists(path(what)), f"{what} is not there"
        from_stage = re.match(r"COPY --from=(\w+)", line)
        assert not from_stage or from_stage[1] in stages, line
    for where, port in re.findall(r"http://127\.0\.0\.1:(\d+)(/actuator\S*)?", text):
        assert re.search(rf"EXPOSE .*\b{where}\b", text)


def test_paths_in_images_are_made_there():
    """Every program and script that a compose file or a manifest calls by its path is put there by a Dockerfile."""
    images = "".join(source(f) for f in DOCKERFILES)
    used = set(re.findall(r"/usr/lib/cairn/([\w.-]+)", source("docker/compose.yaml") + "".join(source("k8s", d, f) for d in ("base", "backends", "mounts") for f in os.listdir(path("k8s", d)) if f.endswith(".yaml"))))
    for name in used - {"member"}:  # mounted
        assert re.search(rf"docker/\S*/?{name}\b", images), name


def test_what_images_are_built_from_builds(folder):
    """The build's context is what .dockerignore leaves: it is enough for CMake."""
    kept = [line[1:] for line in source(".dockerignore").splitlines() if line.startswith("!")]
    for what in kept:
        to = os.path.join(folder, what)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copytree(path(what), to) if os.path.isdir(path(what)) else shutil.copy(path(what), to)
    run("cmake", "--preset", "release", "-DCAIRN_TESTS=OFF", "-DCMAKE_INSTALL_PREFIX=/usr", cwd=folder)
    targets = run("ninja", "-C", os.path.join(folder, "build/release"), "-t", "targets", "all")
    assert "bin/cairn:" in targets and "bin/cairn-gateway:" in targets


def test_scripts_are_clean():
    for script in SCRIPTS:
        assert os.access(path(script), os.X_OK), script
        run("sh", "-n", path(script))
    assert source("docker/postgres/member") == source("k8s/backends/scripts/member")  # kustomize takes no file from outside


def test_packages_of_programs():
    found = run("sh", path("docker/packages-of"), program("cairn-gateway"), program("cairn")).split()
    assert "libc6" in found and any(p.startswith("libfuse3") for p in found) and any(p.startswith("libwebsockets") for p in found)
    assert run("dpkg-query", "-W", "-f", "${Package}\n", *found).split() == found


# ---- Kubernetes ----

def build(folder, name):
    """What kustomize makes of a folder of k8s/, with secrets made as the documents say."""
    copy = os.path.join(folder, "k8s")
    if not os.path.exists(copy):
        shutil.copytree(path("k8s"), copy, ignore=shutil.ignore_patterns("*.env"))
        run(path("k8s/make-secrets"), os.path.join(copy, "overlays/complete"))
        shutil.copy(os.path.join(copy, "overlays/external/urls.env.example"), os.path.join(copy, "overlays/external/urls.env"))
        with open(os.path.join(copy, "mounts/token.env"), "w") as f:
            f.write("CAIRN_TOKEN=token\n")
    return [d for d in yaml.safe_load_all(run(go_program("kustomize"), "build", os.path.join(copy, name))) if d]


@pytest.fixture
def k8s(folder):
    return lambda name: build(folder, name)


def pods(documents):
    for d in documents:
        spec = d.get("spec", {})
        if d["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield d, spec["template"]


def mib(text):
    return int(text[:-2]) * {"Mi": 1, "Gi": 1024}[text[-2:]]


def named(documents, kind, name):
    (found,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("overlay", ["overlays/complete", "overlays/external", "mounts"])
def test_an_overlay_is_whole(k8s, overlay):
    documents = k8s(overlay)
    ids = [(d["kind"], d["metadata"]["name"]) for d in documents]
    assert len(ids) == len(set(ids))
    have = set(ids)
    for d, template in pods(documents):
        where, spec = d["metadata"]["name"], template["spec"]
        labels = template["metadata"]["labels"]
        if "selector" in d["spec"]:
            assert d["spec"]["selector"]["matchLabels"].items() <= labels.items(), where
        volumes = {v["name"]: v for v in spec.get("volumes", [])} | {v["metadata"]["name"]: {} for v in d["spec"].get("volumeClaimTemplates", [])}
        if spec.get("serviceAccountName"):
            assert ("ServiceAccount", spec["serviceAccountName"]) in have
        for v in volumes.values():
            assert "configMap" not in v or ("ConfigMap", v["configMap"]["name"]) in have, where
        for c in spec["containers"]:
            assert {"cpu", "memory"} <= set(c["resources"]["requests"]) and {"cpu", "memory"} <= set(c["resources"]["limits"]), where
            assert all(m["name"] in volumes for m in c.get("volumeMounts", [])), where
            ports = {p["name"] for p in c.get("ports", [])}
            for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
                probe = c.get(kind, {})
                port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                assert port is None or port in ports, (where, kind)
            for source_ in c.get("envFrom", []):
                (kind, ref), = source_.items()
                assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], ref["name"]) in have, where
            for e in c.get("env", []):
                for kind, ref in e.get("valueFrom", {}).items():
                    if kind != "fieldRef":
                        assert ref["key"] in named(documents, {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}[kind], ref["name"])["data"], (where, ref)
    for d in documents:
        if d["kind"] == "Service":
            target = [t for _, t in pods(documents) if d["spec"]["selector"].items() <= t["metadata"]["labels"].items()]
            assert target, d["metadata"]["name"]
            names = {p["name"] for c in target[0]["spec"]["containers"] for p in c["ports"]}
            assert all(p["targetPort"] in names for p in d["spec"]["ports"])
        if d["kind"] == "Ingress":
            assert d["spec"]["tls"][0]["hosts"] == [r["host"] for r in d["spec"]["rules"]]
            for r in d["spec"]["rules"]:
                for p in r["http"]["paths"]:
                    service = named(documents, "Service", p["backend"]["service"]["name"])
                    assert p["backend"]["service"]["port"]["name"] in {q["name"] for q in service["spec"]["ports"]}


def test_the_members_of_postgresql_know_each_other(compose, k8s):
    """docker/postgres/member is told all that it asks for; what it does with it: test_members.py."""
    asked_for = {"MEMBERS", "PGDATA", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "REPLICATION_PASSWORD"}
    assert all("$" + name in source("docker/postgres/member").partition("\nset -eu")[0] for name in asked_for)
    names = ["postgres", "postgres-replica"]
    for name in names:
        s = compose["services"][name]
        assert s["hostname"] == name and s["environment"]["MEMBERS"].split() == names and s["environment"]["FIRST"] in names
        assert asked_for <= set(s["environment"]), name
        assert s["entrypoint"] == ["/usr/lib/cairn/member"] and "./postgres/member:/usr/lib/cairn/member:ro" in s["volumes"]
    assert set(names) <= set(compose["services"]["migrate"]["depends_on"]), "the first one waits for the other"
    documents = k8s("overlays/complete")
    d = named(documents, "StatefulSet", "postgres")
    (c,) = d["spec"]["template"]["spec"]["containers"]
    given = {e["name"]: e.get("value") for e in c["env"]}
    assert asked_for <= set(given) and "livenessProbe" not in c and "startupProbe" not in c
    assert given["MEMBERS"].split() == [f"postgres-{n}.{d['spec']['serviceName']}" for n in range(d["spec"]["replicas"])] and d["spec"]["podManagementPolicy"] == "Parallel"
    where, file = os.path.split(given["FIRST_FILE"])
    (volume,) = [m["name"] for m in c["volumeMounts"] if m["mountPath"] == where and "subPath" not in m]  # else it would not change while a pod runs
    (first,) = [v["configMap"]["name"] for v in d["spec"]["template"]["spec"]["volumes"] if v["name"] == volume]
    assert named(documents, "ConfigMap", first)["data"][file] == "postgres-0"


def test_pods_are_restricted(k8s):
    """What the restricted profile of pod security asks, checked here; the mounts are the exception, in a namespace of their own."""
    documents = k8s("overlays/complete")
    assert named(documents, "Namespace", "cairn")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for d, template in pods(documents):
        spec, where = template["spec"], d["metadata"]["name"]
        s = spec["securityContext"]
        assert s["runAsNonRoot"] is True and s["runAsUser"] > 0 and s["seccompProfile"]["type"] == "RuntimeDefault", where
        assert not any("hostPath" in v for v in spec.get("volumes", [])) and not spec.get("hostNetwork"), where
        for c in spec["containers"]:
            assert c["securityContext"]["allowPrivilegeEscalation"] is False and c["securityContext"]["capabilities"]["drop"] == ["ALL"], where
            assert where == "rabbitmq" or c["securityContext"]["readOnlyRootFilesystem"] is True, where
    mounts = k8s("mounts")
    assert named(mounts, "Namespace", "cairn-mounts")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    (c,) = named(mounts, "DaemonSet", "mount")["spec"]["template"]["spec"]["containers"]
    assert c["securityContext"]["privileged"] is True and any(m.get("mountPropagation") == "Bidirectional" for m in c["volumeMounts"])


def test_the_gateways_scale_and_roll(k8s):
    documents = k8s("overlays/complete")
    d = named(documents, "Deployment", "gateway")
    scaler = named(documents, "HorizontalPodAutoscaler", "gateway")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"], scaler["scaleTargetRef"]["name"]) == (3, 20, "gateway") and "replicas" not in d["spec"]
    assert {m["resource"]["name"] for m in scaler["metrics"]} == {"cpu", "memory"}
    budget = named(documents, "PodDisruptionBudget", "gateway")["spec"]
    assert budget["selector"]["matchLabels"].items() <= d["spec"]["template"]["metadata"]["labels"].items() and budget["maxUnavailable"] == 1
    assert d["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    spec = d["spec"]["template"]["spec"]
    (c,) = spec["containers"]
    drain_s = int(re.search(r"#define DRAIN_MS (\d+)", source("gateway/serve.c"))[1]) // 1000
    assert spec["terminationGracePeriodSeconds"] > int(c["lifecycle"]["preStop"]["exec"]["command"][1]) + drain_s
    assert "/actuator/health/readiness" == c["readinessProbe"]["httpGet"]["path"] and "/actuator/health/liveness" == c["livenessProbe"]["httpGet"]["path"]
    # Memory asks for another gateway only where there is more of it than one in full use has.
    kept = [int(n) for n in re.findall(r"(?:BODY_MEMORY_MAX|CONTENT_CACHE_BYTES|ANSWERS_BYTES) \(?(?:UINT64_C\()?(\d+)u?\)? << 20", source("gateway/serve.c"))]
    assert len(kept) == 3
    (target,) = [m["resource"]["target"] for m in scaler["metrics"] if m["resource"]["name"] == "memory"]
    assert target["type"] == "AverageValue" and sum(kept) * 1.5 < mib(target["averageValue"]) < mib(c["resources"]["limits"]["memory"]) and sum(kept) < mib(c["resources"]["requests"]["memory"])
    advertise = next(e["value"] for e in c["env"] if e["name"] == "CAIRN_ADVERTISE")
    internal = next(p["containerPort"] for p in c["ports"] if p["name"] == "internal")
    assert advertise == f"http://$(POD_IP):{internal}"


def test_programs_know_what_they_are_given(k8s):
    for overlay in ("overlays/complete", "overlays/external"):
        documents = k8s(overlay)
        for d, template in pods(documents):
            for c in template["spec"]["containers"]:
                if not c["image"].startswith("cairn-gateway"):
                    continue
                given = {e["name"] for e in c.get("env", [])} - {"POD_IP"}
                for source_ in c.get("envFrom", []):
                    (kind, ref), = source_.items()
                    given |= set(named(documents, {"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], ref["name"])["data"])
                (verb,) = c["args"]
                assert given <= variables(verb), (d["metadata"]["name"], given - variables(verb))
                assert ({"CAIRN_META"} if verb == "migrate" else {"CAIRN_META", "CAIRN_OBJECTS", "CAIRN_EVENTS", "CAIRN_SCANNER", "CAIRN_LISTEN"}) <= given
    (c,) = named(k8s("mounts"), "DaemonSet", "mount")["spec"]["template"]["spec"]["containers"]
    help_ = run(program("cairn"), "mount", "--help") + source("docs/man/cairn.1")
    for e in c["env"]:
        assert e["name"] in help_, e["name"]
    for option in re.findall(r"(?<= )--[a-z-]+", c["command"][2]):
        assert option in help_, option
    for verb in ("unmount", "status"):
        assert verb in run(program("cairn"), "--help")


def test_probes_ask_for_what_is_served():
    routes = source("gateway/api/actuator.c")
    text = source("docker/compose.yaml") + source("docker/Dockerfile") + source("docker/nginx/Dockerfile") + source("k8s/base/gateway.yaml") + source("k8s/base/worker.yaml") + source("k8s/base/ingress.yaml")
    paths = set(re.findall(r"/actuator/[a-z/]+", text))
    assert len(paths) >= 3
    for p in paths:
        assert f'"{p}"' in routes, p


def allowed(documents, source_, target, port):
    """Whether network policies let a pod of one app open this port of another."""
    def selects(selector, labels):
        return selector.get("matchLabels", {}).items() <= labels.items() and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))

    def rule_allows(rule, key, other):
        ports, peers = rule.get("ports"), rule.get(key)
        return (not ports or any(p["port"] == port for p in ports)) and (not peers or any("podSelector" in p and "namespaceSelector" not in p and selects(p["podSelector"], other) for p in peers))
    policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]
    out = any(rule_allows(r, "to", {"app": target}) for p in policies if selects(p["podSelector"], {"app": source_}) for r in p.get("egress", []))
    into = any(rule_allows(r, "from", {"app": source_}) for p in policies if selects(p["podSelector"], {"app": target}) for r in p.get("ingress", []))
    return out and into


def test_messages_are_kept_by_a_majority(k8s):
    """Quorum queues, and dead letters that are handed over at least once, which the gateways declare only where the URL says so; it names every node. The volume has the data and not the cookie, which its fsGroup would give to the group."""
    documents = k8s("overlays/complete")
    (secret,) = [d for d in documents if d["kind"] == "Secret" and "CAIRN_EVENTS" in d["data"]]
    spec = named(documents, "StatefulSet", "rabbitmq")["spec"]
    hosts = ",".join(f"rabbitmq-{n}.{spec['serviceName']}" for n in range(spec["replicas"]))
    assert base64.b64decode(secret["data"]["CAIRN_EVENTS"]).decode().endswith(f"@{hosts}/%2f?queue-type=quorum")
    (c,) = spec["template"]["spec"]["containers"]
    where = {m["name"]: m["mountPath"] for m in c["volumeMounts"]}
    assert where["data"] == next(e["value"] for e in c["env"] if e["name"] == "RABBITMQ_MNESIA_BASE") == "/var/lib/rabbitmq/mnesia"


def test_the_worker_says_how_it_is(compose, k8s):
    """Asked as the gateway is, at the port where it listens."""
    d = named(k8s("overlays/complete"), "Deployment", "worker")
    (c,) = d["spec"]["template"]["spec"]["containers"]
    assert {kind: c[kind]["httpGet"]["path"].rpartition("/")[2] for kind in ("startupProbe", "livenessProbe", "readinessProbe")} == {"startupProbe": "liveness", "livenessProbe": "liveness",
                                                                                                                                 "readinessProbe": "readiness"}
    (port,) = [p["containerPort"] for p in c["ports"] if p["name"] == "http"]
    assert named(k8s("overlays/complete"), "ConfigMap", "cairn")["data"]["CAIRN_LISTEN"].endswith(f":{port}")
    worker = compose["services"]["worker"]
    assert worker["environment"]["CAIRN_LISTEN"].rpartition(":")[2] in " ".join(worker["healthcheck"]["test"])


def test_what_is_applied_again(k8s):
    """Jobs cannot be changed: each goes by itself, and not before `kubectl wait` has seen its end."""
    jobs = [d for d in k8s("overlays/complete") if d["kind"] == "Job"]
    assert {d["metadata"]["name"] for d in jobs} == {"migrate", "bucket"}
    assert all(d["spec"]["ttlSecondsAfterFinished"] >= 60 for d in jobs)


def test_the_public_paths(k8s):
    """All that the API's description names, by the ingress; nothing of what is for operators."""
    (rule,) = named(k8s("overlays/complete"), "Ingress", "cairn")["spec"]["rules"]
    paths = [(p["path"], p["pathType"]) for p in rule["http"]["paths"]]

    def public(asked):
        return any(asked == p or kind == "Prefix" and asked.startswith(p + "/") for p, kind in paths)
    assert all(p != "/" for p, _ in paths)
    for asked in yaml.safe_load(source("docs/openapi.yaml"))["paths"]:
        assert public(asked) == (not asked.startswith("/actuator/") or asked == "/actuator/health"), asked
    for asked in ("/ws", "/openapi.yaml", "/swagger-ui.html", "/api/v1/fs/v1/mount"):
        assert public(asked), asked
    assert not public("/metrics") and not public("/peer") and not public("/actuator/prometheus")


def test_stores_outlive_a_node(k8s):
    documents = k8s("overlays/complete")
    for d, template in pods(documents):
        if d["kind"] == "StatefulSet":
            name = d["metadata"]["name"]
            budget = named(documents, "PodDisruptionBudget", name)["spec"]
            (spread,) = template["spec"]["topologySpreadConstraints"]
            assert budget["maxUnavailable"] == 1 and spread["topologyKey"] == "kubernetes.io/hostname"
            assert budget["selector"] == spread["labelSelector"] == d["spec"]["selector"], name


def test_what_is_scanned_fits(compose, k8s):
    """clamd writes what it gets, and what it unpacks, to /tmp."""
    conf = dict(line.split(" ", 1) for line in source("docker/clamd/clamd.conf").splitlines() if line and line[0] != "#")
    most = int(conf["MaxThreads"]) * sum(int(conf[name].rstrip("M")) for name in ("StreamMaxLength", "MaxScanSize"))
    volumes = named(k8s("overlays/complete"), "Deployment", "clamd")["spec"]["template"]["spec"]["volumes"]
    (size,) = [v["emptyDir"]["sizeLimit"] for v in volumes if v["name"] == "tmp"]
    assert most <= mib(size)
    assert "tmpfs" not in compose["services"]["clamd"] and "/tmp" in compose["services"]["clamd"]["volumes"], "on the disk"


def test_who_may_talk_to_whom(k8s):
    documents = k8s("overlays/complete")
    for pair in [("gateway", "postgres", 5432), ("worker", "postgres", 5432), ("migrate", "postgres", 5432), ("postgres", "postgres", 5432), ("gateway", "redis", 6379),
                 ("gateway", "rabbitmq", 5672), ("worker", "rabbitmq", 5672), ("rabbitmq", "rabbitmq", 25672), ("gateway", "minio", 9000), ("worker", "minio", 9000), ("bucket", "minio", 9000),
                 ("minio", "minio", 9000), ("worker", "clamd", 3310), ("gateway", "clamd", 3310), ("gateway", "gateway", 9090)]:
        assert allowed(documents, *pair), pair
    for pair in [("clamd", "postgres", 5432), ("clamd", "gateway", 9090), ("redis", "postgres", 5432), ("minio", "gateway", 8080), ("migrate", "minio", 9999), ("postgres", "gateway", 9090), ("worker", "gateway", 8080), ("worker", "gateway", 9090)]:
        assert not allowed(documents, *pair), pair


# ---- the same, as processes ----

def server(*words):
    subprocess.run([SERVER, *words], check=True, timeout=120)


def test_a_bucket_is_made(folder):
    store = os.path.join(folder, "minio")
    server("start", "minio", store)
    try:
        with open(os.path.join(store, "url")) as f:
            access, secret, endpoint = re.match(r"s3://([^:]+):([^@]+)@cairn\?endpoint=([^&]+)", f.read()).groups()
        env = {**os.environ, "ENDPOINT": endpoint, "BUCKET": "another", "MINIO_ROOT_USER": access, "MINIO_ROOT_PASSWORD": secret, "NO_PROXY": "*", "TRIES": "3"}
        for _ in range(2):  # one that is there is left
            run(path("docker/minio/make-bucket"), env=env)
        refused = subprocess.run([path("docker/minio/make-bucket")], env={**env, "MINIO_ROOT_PASSWORD": "wrong"}, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "403" in refused.stderr
    finally:
        server("stop", store)


def test_nginx_follows_the_gateways(folder):
    """docker/nginx/start in front of a real gateway: it waits for one to be there, passes requests and WebSockets on, drains at SIGTERM; the gateway's readiness gates it."""
    port = reserve_port(folder)
    g = Gateway(os.path.join(folder, "gateway"))
    try:
        g.start()
        env = {**os.environ, "DIR": os.path.join(folder, "nginx"), "TEMPLATE": path("docker/nginx/nginx.conf.template"), "PORT": str(port), "GATEWAYS_HOST": "127.0.0.1", "GATEWAYS_PORT": str(g.port),
               "LOOK_SECONDS": "1"}
        with open(os.path.join(folder, "nginx.log"), "wb") as log:
            nginx = subprocess.Popen([path("docker/nginx/start")], env=env, stdout=log, stderr=log)
        try:
            direct = g.port
            g.port = port
            wait_for(g.ready, "nginx", 20)
            assert g.api("PUT", "/files/content" + g.query(drive="home", path="/f"), body=b"x" * 3000000).status == 201
            assert len(g.api("GET", "/files/content" + g.query(drive="home", path="/f")).body) == 3000000
            stomp = Stomp(g).subscribe("/topic/file-changes")
            g.api("PUT", "/files/content" + g.query(drive="home", path="/g"), body=b"x")
            assert stomp.message()[1]["path"] == "/g"
            stomp.close()
            g.port = direct
        finally:
            nginx.terminate()
            nginx.wait(30)
        assert g.stop() == 0  # the drain that terminationGracePeriodSeconds leaves time for
        assert nginx.returncode in (0, 143)
    finally:
        g.close()


def test_nginx_goes_on_while_gateways_roll(folder):
    """The template in front of two gateways of which one at a time is ended: no request fails. (SQLite lets one gateway run on a database: these have one each, and are only asked what both know.)"""
    gateways = [Gateway(os.path.join(folder, n)) for n in ("one", "two")]
    nginx = os.path.join(folder, "nginx")
    try:
        for g in gateways:
            g.start()
        servers = upstream(g.port for g in gateways)
        server("start", "nginx", nginx, "config=" + path("docker/nginx/nginx.conf.template"), "TLS=", "SERVERS=" + servers)
        with open(os.path.join(nginx, "url")) as f:
            port = int(f.read().strip().rsplit(":", 1)[1])
        asker, own = gateways[0], gateways[0].port
        for g in gateways:
            statuses = []
            for step in (None, g.stop, None, g.start, None):
                if step:
                    asker.port = own
                    step()
                asker.port = port
                statuses += [asker.api("GET", "/actuator/info", token="").status for _ in range(30)]
                statuses += [asker.api("POST", "/auth/login", json={"username": "ann", "password": "ann's password", "device": "d"}, token="").status for _ in range(3)]
                asker.port = own
            assert set(statuses) == {200}, statuses
    finally:
        server("stop", nginx)
        for g in gateways:
            g.close()


def test_the_address_of_a_container(folder):
    """docker/gateway-start: the other gateways reach this one at its own address."""
    fake = os.path.join(folder, "bin")
    os.makedirs(fake)
    with open(os.path.join(fake, "cairn-gateway"), "w") as f:
        f.write('#!/bin/sh\necho "$CAIRN_ADVERTISE|${CAIRN_ADVERTISE_PORT-}|$*"\n')
    os.chmod(os.path.join(fake, "cairn-gateway"), 0o755)
    env = {**os.environ, "PATH": fake + ":" + os.environ["PATH"], "CAIRN_ADVERTISE_PORT": "9090"}
    env.pop("CAIRN_ADVERTISE", None)
    assert re.fullmatch(r"http://(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):9090\|\|serve\n", run(path("docker/gateway-start"), "serve", env=env))
    assert run(path("docker/gateway-start"), "serve", env={**env, "CAIRN_ADVERTISE": "http://me:1"}) == "http://me:1||serve\n"
    assert run(path("docker/gateway-start"), "migrate", env=env) == "||migrate\n"


def test_clamd_takes_its_settings(folder):
    """The image's clamd.conf, moved to a folder of the test's own, by the real clamd."""
    conf = source("docker/clamd/clamd.conf").replace("/var/lib/clamav", folder + "/db").replace("TCPSocket 3310\nTCPAddr 0.0.0.0\n", f"LocalSocket {folder}/socket\n").replace("TemporaryDirectory /tmp", f"TemporaryDirectory {folder}")
    os.makedirs(folder + "/db")
    with open(folder + "/db/test.ndb", "w") as f:
        f.write("Test-Signature:0:*:" + b"not much of a virus".hex() + "\n")
    with open(folder + "/clamd.conf", "w") as f:
        f.write(conf)
    with open(folder + "/clamd.log", "wb") as log:
        clamd = subprocess.Popen([path("docker/clamd/start")], env={**os.environ, "CLAMD_CONF": folder, "CLAMD_UPDATE": "no", "PATH": os.environ["PATH"] + ":/usr/sbin"}, stdout=log, stderr=log)
    try:
        wait_for(lambda: os.path.exists(folder + "/socket") or clamd.poll() is not None, "clamd")
        assert clamd.poll() is None, open(folder + "/clamd.log").read()
    finally:
        clamd.terminate()
        clamd.wait(20)
