"""A node of a Redis Cluster that holds half of the slots, and says of the others that somebody else has them."""

from pathlib import Path

from redis import Redis as Client
from stack_parts.home import Home
from stack_parts.ports import LOOPBACK
from stack_parts.redis import Redis

LAST_SLOT = 16_383


class ClusterNode(Redis):
    def __init__(self, folder: Path) -> None:
        super().__init__(Home(folder / "redis-stack"))

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port()}/0"

    def prepare(self) -> None:
        super().prepare()
        with (self.home.data(self.name) / "redis.conf").open("a") as conf:
            conf.write("cluster-enabled yes\ncluster-require-full-coverage no\n")

    def finish_start(self) -> None:
        with Client(host=LOOPBACK, port=self.port()) as client:
            if not client.execute_command("CLUSTER", "SLOTS"):  # a node that starts again has them
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, LAST_SLOT // 2)
