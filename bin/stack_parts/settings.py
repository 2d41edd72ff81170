"""The settings of the three servers for bin/stack. A test compares docker-compose.yml with them."""

from __future__ import annotations

from typing import Final

PARTS: Final = ("postgres", "redis", "kafka")

POSTGRES_MAJOR: Final = 15
"""The oldest supported PostgreSQL, and the version of the compose image."""
REDIS_MAJOR: Final = 7
JAVA_MAJOR: Final = 17
KAFKA_VERSION: Final = "4.3.1"
"""Also in bin/kafka-pom.xml."""

IMAGES: Final = {
    "postgres": f"postgres:{POSTGRES_MAJOR}-bookworm",
    "redis": f"redis:{REDIS_MAJOR}.2-bookworm",
    "kafka": f"apache/kafka:{KAFKA_VERSION}",
}

DATABASE: Final = "coupons"
DATABASE_USER: Final = "coupons"

POSTGRES_SETTINGS: Final = {
    # web threads, consumers, keeper, jobs and a test run each have a connection of their own
    "max_connections": "200",
    "shared_buffers": "256MB",
    # an insert-heavy table: fewer, longer checkpoints
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

REDIS_SETTINGS: Final = {
    # "accepted" means that the ticket is on disk
    "appendonly": "yes",
    "appendfsync": "always",
    # an evicted ticket is a broken promise; out of memory must be an error
    "maxmemory-policy": "noeviction",
    # the append-only file is the only copy, so no snapshots
    "save": "",
}

KAFKA_SETTINGS: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    # a mistyped topic name must be an error, not a new topic
    "auto.create.topics.enable": "false",
    # one node: the internal topics have one replica
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "offsets.topic.num.partitions": "10",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    # a consumer that dies by SIGKILL holds its partitions 6 s, not 45 s (KIP-848: set on the broker)
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "2000",
    "group.consumer.min.heartbeat.interval.ms": "2000",
    # after SIGKILL a broker can only register again when its old session has expired: 4 s instead of 9 s
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    "log.retention.hours": "720",
}

KAFKA_HEAP: Final = "512m"

BROKERS: Final = ("kafka", "kafka-2", "kafka-3")
"""The parts that `bin/stack up --brokers 3` has in the place of the one broker; each is controller, too."""
SETTINGS_OF_THREE_BROKERS: Final = {
    # losing one of them stops nothing
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # a follower that hangs holds acknowledgements back for so long
    "replica.lag.time.max.ms": "4000",
}
HEAP_OF_THREE_BROKERS: Final = "256m"

PORT_RANGES: Final = {
    # below Linux's ephemeral ports (from 32768), so no outgoing connection takes the port of a stopped server
    "postgres": (25000, 1000),
    "redis": (26000, 1000),
    "kafka": (27000, 1000),
    "kafka_controller": (28000, 1000),
    # a third listener that advertises another port: a test's proxy listens there and forwards to this one
    "kafka_proxied": (29000, 1000),
    "kafka_proxy": (30000, 1000),
    "kafka-2": (20000, 1000),
    "kafka-2_controller": (21000, 1000),
    "kafka-3": (22000, 1000),
    "kafka-3_controller": (23000, 1000),
    "web": (8000, 1000),
}

START_DEADLINE_SEC: Final = {"postgres": 60, "redis": 60, **dict.fromkeys(BROKERS, 120)}
STOP_DEADLINE_SEC: Final = {"postgres": 60, "redis": 30, **dict.fromkeys(BROKERS, 60)}

APT_PACKAGES: Final = {
    # the first name for which apt has a package is used
    "postgres": ("postgresql",),
    "redis": ("redis-server",),
    "java": ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "default-jre-headless"),
    "maven": ("maven",),
    "setpriv": ("util-linux",),
    "curl": ("curl",),
    "compiler": ("build-essential",),
    "go": ("golang-go",),
}
APT_PACKAGES_BENCHMARKS: Final = ("wrk",)
# the client of open loops, from the Go module proxy, whose checksums Go verifies; no distribution packages it
VEGETA: Final = "github.com/tsenart/vegeta/v12@v12.13.0"
GO_MINOR: Final = 22
# to make a root folder of Debian, and to give a network namespace a way out (tests/support/engine.py)
APT_PACKAGES_CONTAINER_TESTS: Final = ("ca-certificates", "curl", "iproute2", "mmdebstrap", "slirp4netns", "util-linux")
APT_PACKAGES_SYSTEM_TESTS: Final = (
    "cron",
    "systemd",
    "nginx",
    "nodejs",
    "chromium",
    "chromium-driver",
    "iproute2",
    "iptables",
    "mount",
    "pgbouncer",
)
