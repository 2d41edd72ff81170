"""Runs the four programs: KAFKA=host:port python trial.py rates | join"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

HERE, KAFKA = Path(__file__).parent, {"bootstrap.servers": os.environ["KAFKA"]}
PROGRAMS = {"own_loop": {}, "arroyo_trial": {}, "django_kafka_trial": {}, "faststream_trial": {"PROTOCOL": "classic"}}


def make_topic():
    name = f"trial-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(KAFKA)  # kept in a name: the future dies with its client
    admin.create_topics([NewTopic(name, 6, 1)])[name].result()
    time.sleep(1)
    return name


def produce(topic, first, last):
    producer = Producer({**KAFKA, "queue.buffering.max.messages": 1_000_000})
    for i in range(first, last):
        producer.produce(topic, json.dumps({"v": 1, "user_id": str(i), "sequence": i}), key=str(i))
    producer.flush()


def start(program, topic, group, log, **env):
    command = [sys.executable, str(HERE / f"{program}.py"), topic, group]
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **PROGRAMS[program], **env})


def rates(folder, count=100_000, rounds=5):
    """Rows/s of a sink that only counts, after the first batch; the own loop beside each, by the same protocol."""
    topic = make_topic()
    produce(topic, 0, count)
    for number in range(rounds):
        for program in ("arroyo_trial", "django_kafka_trial", "faststream_trial"):
            rate = {}
            for each in ("own_loop", program):
                log = folder / f"{each}{number}.log"
                with log.open("w") as file:
                    child = start(
                        each, topic, f"{log.stem}-{program}-{topic}", file, COUNT=str(count), **PROGRAMS[program]
                    )
                    while "RATE" not in log.read_text() and child.poll() is None:
                        time.sleep(0.1)
                child.send_signal(signal.SIGTERM)
                child.wait(40)
                rate[each] = int(log.read_text().split("RATE ")[1].split()[0])
            print(program, rate, f"ratio {rate[program] / rate['own_loop']:.2f}", flush=True)


def join(folder):
    """A second member joins while the database is down for 43 s; 10,000 rows should be there 20 s after it is up."""
    for program in PROGRAMS:
        sink, down, topic = folder / f"{program}.db", folder / f"{program}.down", make_topic()
        database = sqlite3.connect(sink)
        database.executescript("CREATE TABLE coupon(pid, part, off, seq, at); CREATE TABLE failure(part, off, text);")
        env = {"SINK": str(sink), "DOWN": str(down), "MAX_POLL_MS": "120000"}
        with (folder / f"{program}.log").open("w") as log:
            children = [start(program, topic, topic, log, **env)]
            produce(topic, 0, 2000)
            time.sleep(6)
            down.touch()
            produce(topic, 2000, 10_000)
            time.sleep(10)
            children.append(start(program, topic, topic, log, **env))
            time.sleep(31)
            down.unlink()
            time.sleep(20)
            rows = database.execute("SELECT count(*), count(DISTINCT seq) FROM coupon").fetchone()
            print(program, "rows, different rows:", rows, "exit codes:", [c.poll() for c in children], flush=True)
            for child in children:
                child.send_signal(signal.SIGTERM)
                child.wait(40)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        {"rates": rates, "join": join}[sys.argv[1]](Path(name))
