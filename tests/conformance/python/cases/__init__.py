"""The cases, by area; importing an area registers its cases."""

import time

from client import Refused
from harness import PATIENCE, Failed


def read(consumer, count, seconds=PATIENCE):
    """The next `count` records; fails when they do not come, or more than that come at once."""
    found = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        if time.monotonic() > deadline:
            raise Failed(f"{len(found)} of {count} records within {seconds:g} s: {[r.value for r in found[-3:]]}")
        found += consumer.poll(0.2)
    if len(found) > count:
        raise Failed(f"{len(found)} records instead of {count}: {[r.value for r in found[-3:]]}")
    return found


def read_all(env, topic, partitions=1, **settings):
    """All records of a topic up to the ends that its consumer sees, by partition and offset."""
    found = []
    with env.consumer(**settings) as consumer:
        places = [(topic, number) for number in range(partitions)]
        # Asked before anything is fetched: a client may have one connection, on which a fetch waits for records.
        ends = {place: consumer.end(place) for place in places}
        consumer.assign([(*place, consumer.beginning(place)) for place in places])
        deadline = time.monotonic() + PATIENCE
        while not all(consumer.is_at(place, end) for place, end in ends.items()):
            if time.monotonic() > deadline:
                raise Failed(f"{topic} was not read to its ends {ends} within {PATIENCE:g} s")
            found += consumer.poll(0.2)
    return sorted(found, key=lambda record: (record.partition, record.offset))


def values(records):
    return [record.value.decode() for record in records]


def fill(env, topic, texts, partition=0, **settings):
    """Sends texts one after the other; their offsets."""
    with env.producer(**settings) as producer:
        deliveries = [producer.send(topic, text.encode(), partition=partition) for text in texts]
        return [delivery.get() for delivery in deliveries]


def await_error(consumer, seconds=PATIENCE):
    """The name of the error that polling ends with."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            consumer.poll(0.2)
        except Refused as error:
            return error.name
    raise Failed(f"no error within {seconds:g} s")
