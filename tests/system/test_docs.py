"""What is written down is what is there: the API's description, the driver's protocol, the manual pages, --help, the README's commands."""
import glob
import os
import re
import shutil
import subprocess

import pytest
import yaml

from harness import ROOT, program


def source(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def run(*args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}
    return subprocess.run([program(args[0]), *args[1:]], capture_output=True, text=True, timeout=60, env=env)


# ---- the API ----

def routes():
    """(method, path) of everything that the gateway answers, from its tables of routes."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, "gateway", "api", "*.c")):
        found |= set(re.findall(r'\{HTTP_(\w+), ((?:FS_BASE )?"[^"]+")', source(path)))
    return {(method, path.replace('FS_BASE "', "FS:").strip('"')) for method, path in found}


def test_the_api_is_described_as_it_is():
    described = set()
    for path, methods in yaml.safe_load(source("docs", "openapi.yaml"))["paths"].items():
        described |= {(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for method in methods if method != "parameters"}
    served = {r for r in routes() if not r[1].startswith("FS:")}
    assert len(served) > 30
    # a HEAD is answered wherever a GET is; the description and its page, and the second name of the metrics, describe themselves
    described -= {("HEAD", path) for method, path in described if method == "HEAD"}
    served -= {("GET", "/openapi.yaml"), ("GET", "/swagger-ui.html"), ("GET", "/metrics")}
    assert served - described == set(), "not described"
    assert described - served == set(), "described, but not served"


def test_the_description_names_each_path_once():
    paths = re.findall(r"^  (/\S+):$", source("docs", "openapi.yaml"), re.M)
    assert len(paths) == len(set(paths))


def test_the_drivers_protocol_is_described_as_it_is():
    text = source("docs", "protocol.md")
    described = set(re.findall(r"\b(GET|POST|PUT|DELETE) (mount|inodes|batch|\w+)[ ?`]", text))
    served = {(method, path.removeprefix("FS:/")) for method, path in routes() if path.startswith("FS:")}
    assert len(served) > 15
    assert served - described == set(), "not described"
    assert described - served == set(), "described, but not served"


# ---- the command line ----

def words(text):
    """The options that a text names: --long and -s."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) | set(re.findall(r"(?<![\w-])-[a-zA-Z](?![\w-])", text))


def man(name):
    text = source("docs", "man", name)
    text = re.sub(r"\\f[BIRP]", "", text).replace("\\-", "-").replace("\\&", "")
    return re.sub(r'" *"|"', "", text)  # what stands in several arguments of a macro is one word


def verbs():
    return re.findall(r"^  ([a-z]+) ", run("cairn", "--help").stdout, re.M)


def test_help_of_every_verb():
    assert len(verbs()) >= 19
    for args in ((), ("--help",), ("help",), ("--version",), *((v, "--help") for v in verbs()), *(("help", v) for v in verbs())):
        done = run("cairn", *args)
        assert (done.returncode, done.stderr) == (0, "") if args else done.returncode == 2 and done.stderr, args
    for verb in verbs():
        wrong = run("cairn", verb, "--no-such-option")
        assert wrong.returncode == 2 and "--no-such-option" in wrong.stderr and f"Usage: cairn {verb}" in wrong.stderr, verb
    assert run("cairn", "nonsense").returncode == 2


def test_help_names_every_option_that_a_verb_takes():
    for path in glob.glob(os.path.join(ROOT, "fusefs", "cli", "*.c")):
        verb = os.path.basename(path).removesuffix(".c").removesuffix("_options")
        help = run("cairn", verb, "--help").stdout if verb in verbs() else None
        for name, letter in re.findall(r'\{"([a-z-]+)", (\d|\'.\'), CLI_\w+, &', source(path)):
            assert help is not None, f"{path} is no verb's"
            assert f"--{name}" in words(help) or (letter != "0" and f"-{letter[1]}" in words(help)), f"cairn {verb} --help does not name --{name}"


def test_the_manual_of_cairn_names_every_verb_and_option():
    page, helps = man("cairn.1"), {v: run("cairn", v, "--help").stdout for v in verbs()}
    for verb in helps:
        assert re.search(rf"^\.(TP\n\.)?(BI?R?|BR) .*\b{verb}\b", page, re.M), f"cairn.1 does not tell of {verb}"
    told = set.union(*map(words, helps.values()))
    assert told - words(page) == set(), "not in cairn.1"
    assert words(page) - told - {"--help", "-t"} == set(), "in cairn.1 only"  # -t is mount(8)'s


def test_the_manual_of_the_gateway_names_every_verb_and_option():
    page, help = man("cairn-gateway.1"), run("cairn-gateway", "--help")
    assert help.returncode == 0
    names = ["serve", "worker", "migrate", "config check", "admin"]
    helps = [run("cairn-gateway", *name.split(), "--help") for name in names]
    assert [(h.returncode, h.stderr) for h in helps] == [(0, "")] * len(names)
    told = set.union(*(words(h.stdout) for h in helps))
    assert told - words(page) - {"--help"} == set(), "not in cairn-gateway.1"
    assert words(page) - told - {"--help", "-"} == set(), "in cairn-gateway.1 only"
    for verb in names:
        assert verb in help.stdout and re.search(rf"^\.B.* ?{verb}", page, re.M), verb
    commands = re.findall(r"^ +(?:cairn-gateway )?admin ((?:user|drive|shard|audit) [a-z]+)", helps[-1].stdout + help.stdout, re.M)
    commands += re.findall(r"^  ((?:user|drive) [a-z]+)", helps[-1].stdout, re.M)
    assert len(set(commands)) >= 8, helps[-1].stdout
    for command in set(commands):
        assert f"admin {command}" in page, command


@pytest.mark.parametrize("page", ["cairn.1", "cairn-gateway.1"])
def test_manual_pages_are_well_formed(page):
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", os.path.join(ROOT, "docs", "man", page)], capture_output=True, text=True, env={**os.environ, "MANROFFOPT": "", "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout) > 1000


def test_scripts_say_how_they_are_used():
    for script in ("up", "down", "test"):
        done = subprocess.run([os.path.join(ROOT, "scripts", script), "--help"], capture_output=True, text=True, timeout=10)
        assert done.returncode == 0 and f"scripts/{script}" in done.stdout, script
    for args in (["up", "--nonsense"], ["up", "a", "b"], ["down", "x"]):
        done = subprocess.run([os.path.join(ROOT, "scripts", args[0]), *args[1:]], capture_output=True, text=True, timeout=10)
        assert done.returncode == 2 and done.stderr, args


def test_links_between_documents_lead_somewhere():
    for path in [os.path.join(ROOT, "README.md"), *glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True)]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", source(path)):
            assert os.path.exists(os.path.join(os.path.dirname(path), target)), f"{path}: {target}"


def test_operations_names_what_gateways_say():
    """Each metric, and each line of the log, of docs/operations.md is in the source."""
    with open(os.path.join(ROOT, "docs", "operations.md")) as f:
        spans = re.findall(r"`([^`]+)`", f.read())
    source = ""
    for folder, _, files in os.walk(os.path.join(ROOT, "gateway")):
        for name in files:
            if name.endswith(".c"):
                with open(os.path.join(folder, name)) as f:
                    source += f.read()
    metrics = {m for span in spans for m in re.findall(r"\bcairn_[a-z_]+", span)}
    said = {piece.strip() for span in spans if " " in span and re.match(r"…|cannot|connected|database|gateway|lost|object|process|redis|rabbitmq|this gateway", span)
            for piece in re.split(r"…|http://|:|\d+", span) if " " in piece.strip()}
    assert len(metrics) > 4 and len(said) > 8, (metrics, said)
    written = " ".join(re.sub(r"%[a-z.*0-9]+|[\"\n]", " ", source).split())
    for word in metrics | said:
        assert word in written, f"no gateway says {word!r}"
