"""docker/compose.yaml with the settings that docker/make-env writes."""
import os
import re
import subprocess

import yaml
from harness import ROOT


def make_env():
    made = subprocess.run(["sh", os.path.join(ROOT, "docker/make-env")], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in made.split())


def compose_file(settings):
    def value(match):
        name, default = match[1], match[2]
        if default == ":?":
            return settings[name]  # made by make-env, or a KeyError
        return settings.get(name, default[2:] if default else None)
    with open(os.path.join(ROOT, "docker/compose.yaml")) as f:
        return yaml.safe_load(re.sub(r"\$\{(\w+)(:-[^}]*|:\?)?\}", value, f.read()))
