"""A Kafka with its own default: whoever asks for a topic makes it, with one partition and the broker's settings."""

from pathlib import Path

from confluent_kafka.admin import AdminClient
from stack_parts.home import Home
from stack_parts.kafka import Kafka
from stack_parts.ports import LOOPBACK


class KafkaThatMakesTopics(Kafka):
    def __init__(self, folder: Path) -> None:
        super().__init__(Home(folder / "kafka-stack"))

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port()}"

    def prepare(self) -> None:
        super().prepare()
        properties = self.home.data(self.name) / "server.properties"
        never, ever = "auto.create.topics.enable=false", "auto.create.topics.enable=true"
        text = properties.read_text()
        assert never in text
        properties.write_text(text.replace(never, ever))

    def topics(self) -> set[str]:
        """Of users, not Kafka's own. Names none, so it makes none."""
        found = AdminClient({"bootstrap.servers": self.address}).list_topics(timeout=10).topics
        return {name for name in found if not name.startswith("__")}
