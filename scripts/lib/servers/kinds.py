"""The kinds of servers by name."""
import json
import os

from .base import Failed
from .cairn import Gateway, Worker
from .clamd import Clamd
from .nginx import Nginx
from .postgres import Postgres
from .rabbitmq import Rabbitmq, RabbitmqCluster
from .redis import Redis, RedisCluster
from .s3 import Minio, Versitygw

KINDS = {each.kind: each for each in (Clamd, Gateway, Minio, Nginx, Postgres, Rabbitmq, RabbitmqCluster, Redis, RedisCluster, Versitygw, Worker)}


def open_server(folder):
    """One that was started there before."""
    try:
        with open(os.path.join(folder, "state.json")) as f:
            return KINDS[json.load(f)["kind"]](folder)
    except OSError:
        raise Failed(f"there is no server in {folder}") from None
