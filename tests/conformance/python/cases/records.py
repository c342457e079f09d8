"""Records: what is written is read, unchanged and in order."""

import time

from cases import fill, read, read_all, values
from client import refused
from harness import case, equal, eventually, holds

DAY_MS = 86_400_000


def an_hour_ago():
    """In milliseconds; young enough for every retention."""
    return int(time.time() * 1000) - 3_600_000


@case("records/roundtrip")
def roundtrip(env):
    topic = env.topic()
    now = int(time.time() * 1000)
    headers = [("a", b"1"), ("b", b""), ("a", b"2")]
    sent = [
        (b"value", b"key", headers, now),
        (b"value", None, [], now - 10_000),
        (None, b"key", [], now + 5_000),
        (b"", b"", [], now - DAY_MS),
    ]
    with env.producer() as producer:
        for value, key, more, timestamp in sent:
            producer.send(topic, value, key, 0, more, timestamp).get()
    got = [(r.value, r.key, [(k, v) for k, v in r.headers], r.timestamp) for r in read_all(env, topic)]
    equal("records", got, sent)


def compressed(env, codec):
    topic = env.topic()
    texts = [f"{number}-{'x' * 200}" for number in range(500)]
    offsets = fill(env, topic, texts, compression_type=codec, linger_ms=20)
    equal("offsets", offsets, list(range(500)))
    equal("values", values(read_all(env, topic)), texts)


for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    case(f"records/codec-{codec}")(lambda env, codec=codec: compressed(env, codec))


@case("records/order")
def order(env):
    topic = env.topic(3)
    with env.producer(linger_ms=5) as producer:
        sent = [(n % 3, producer.send(topic, str(n).encode(), partition=n % 3)) for n in range(3000)]
        offsets = [[delivery.get() for at, delivery in sent if at == partition] for partition in range(3)]
    equal("offsets", offsets, [list(range(1000))] * 3)
    found = read_all(env, topic, 3)
    for partition in range(3):
        mine = [int(record.value) for record in found if record.partition == partition]
        equal(f"values of partition {partition}", mine, list(range(partition, 3000, 3)))


@case("records/keys")
def keys(env):
    topic = env.topic(5)
    with env.producer() as producer:
        for number in range(100):
            producer.send(topic, str(number).encode(), f"key-{number % 10}".encode())
        producer.flush()
    homes = {}
    for record in read_all(env, topic, 5):
        homes.setdefault(record.key, []).append((record.partition, int(record.value)))
    equal("keys", len(homes), 10)
    for key, places in homes.items():
        equal(f"partitions of {key}", len({partition for partition, _ in places}), 1)
        equal(f"order of {key}", [n for _, n in places], sorted(n for _, n in places))


@case("records/large")
def large(env):
    topic = env.topic(max_message_bytes=200_000)
    with env.producer(max_request_size=4_000_000, enable_idempotence=False) as producer:
        producer.send(topic, b"a" * 199_000).get()
        error = refused(producer.send(topic, b"b" * 201_000).get)
        equal("error above the limit", error, "MESSAGE_TOO_LARGE")
        producer.send(topic, b"c" * 199_000).get()
    equal("values", [record.value[:1] for record in read_all(env, topic)], [b"a", b"c"])


@case("records/fetch-limits")
def fetch_limits(env):
    topic = env.topic(max_message_bytes=2_000_000)
    with env.producer(max_request_size=4_000_000) as producer:
        for letter in (b"a", b"b", b"c"):
            producer.send(topic, letter * 900_000).get()
    found = read_all(env, topic, **env.library.SMALL_FETCH)
    equal("sizes", [len(record.value) for record in found], [900_000] * 3)


@case("records/acks")
def acks(env):
    topic = env.topic()
    with env.producer(acks="0", enable_idempotence=False) as producer:
        producer.send(topic, b"0")
        producer.flush()
        eventually("the record without acknowledgement", lambda: values(read_all(env, topic)) == ["0"])
    for level in ("1", "all"):
        with env.producer(acks=level, enable_idempotence=False) as producer:
            offset = producer.send(topic, level.encode()).get()
            equal(f"offset with acks={level}", offset, 1 if level == "1" else 2)
    equal("values", values(read_all(env, topic)), ["0", "1", "all"])


@case("records/idempotent")
def idempotent(env):
    topic = env.topic()
    texts = [str(number) for number in range(2000)]
    offsets = fill(env, topic, texts, enable_idempotence=True, linger_ms=1)
    offsets += fill(env, topic, texts, enable_idempotence=True, linger_ms=1)
    equal("offsets", offsets, list(range(4000)))
    equal("values", values(read_all(env, topic)), texts * 2)


@case("records/create-time")
def create_time(env):
    topic = env.topic()
    with env.producer() as producer:
        producer.send(topic, b"x", timestamp=an_hour_ago()).get()
    record = read_all(env, topic)[0]
    equal("type", record.timestamp_type, "create")
    equal("minutes ago", round((time.time() * 1000 - record.timestamp) / 60_000), 60)


@case("records/log-append-time")
def log_append_time(env):
    topic = env.topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    with env.producer() as producer:
        producer.send(topic, b"x", timestamp=an_hour_ago()).get()
    record = read_all(env, topic)[0]
    equal("type", record.timestamp_type, "append")
    holds("the broker's time", before - 1000 <= record.timestamp <= time.time() * 1000 + 1000, record.timestamp)


@case("records/timestamp-limits")
def timestamp_limits(env):
    topic = env.topic(message_timestamp_before_max_ms=DAY_MS, message_timestamp_after_max_ms=DAY_MS)
    now = int(time.time() * 1000)
    with env.producer(enable_idempotence=False) as producer:
        for shift in (-3 * DAY_MS, 3 * DAY_MS):
            error = refused(producer.send(topic, b"x", timestamp=now + shift).get)
            equal(f"error {shift} ms off", error, "INVALID_TIMESTAMP")
        equal("offset of a good record", producer.send(topic, b"y", timestamp=now).get(), 0)


@case("records/offsets-by-time")
def offsets_by_time(env):
    topic = env.topic()
    start = an_hour_ago()
    with env.producer() as producer:
        for number, shift in enumerate((0, 10_000, 30_000, 20_000)):
            producer.send(topic, str(number).encode(), partition=0, timestamp=start + shift).get()
    at = (topic, 0)
    with env.consumer() as consumer:
        equal("beginning and end", (consumer.beginning(at), consumer.end(at)), (0, 4))
        cases = {-5: 0, 0: 0, 1: 1, 10_000: 1, 10_001: 2, 25_000: 2, 30_000: 2, 30_001: None}
        for shift, wanted in cases.items():
            got = consumer.offset_at(at, start + shift)
            # What stands for "none" is the client's choice: some say the end.
            equal(f"first offset at +{shift} ms", got, got if wanted is None and got in (None, 4) else wanted)


@case("records/max-timestamp")
def max_timestamp(env):
    topic = env.topic()
    start = an_hour_ago()
    with env.producer() as producer:
        for shift in (0, 50_000, 20_000):
            producer.send(topic, b"x", partition=0, timestamp=start + shift).get()
    with env.admin() as admin:
        equal("record with the newest time", admin.offset((topic, 0), "max"), (1, start + 50_000))
        equal("earliest", admin.offset((topic, 0), "earliest")[0], 0)
        equal("latest", admin.offset((topic, 0), "latest")[0], 3)
        equal("by time", admin.offset((topic, 0), start + 1), (1, start + 50_000))


@case("records/seek")
def seek(env):
    topic = env.topic()
    texts = [str(number) for number in range(100)]
    fill(env, topic, texts)
    at = (topic, 0)
    with env.consumer() as consumer:
        consumer.assign([(*at, 90)])
        equal("from 90", values(read(consumer, 10)), texts[90:])
        consumer.seek(at, 10)
        equal("from 10", values(read(consumer, 90)), texts[10:])
        consumer.seek(at, 99)
        equal("from 99", values(read(consumer, 1)), texts[99:])
        equal("position", consumer.position(at), 100)


@case("records/leader-epoch")
def leader_epoch(env):
    topic = env.topic()
    fill(env, topic, [str(number) for number in range(10)])
    at = (topic, 0)
    epoch = read_all(env, topic)[0].leader_epoch
    holds("records tell the leader's epoch", epoch is not None and epoch >= 0, epoch)
    with env.consumer(env.name()) as consumer:
        consumer.assign([(*at, 0)])
        read(consumer, 10)
        # A position with an epoch is checked with OffsetForLeaderEpoch before it is fetched from.
        consumer.seek(at, 4, epoch)
        equal("from there", values(read(consumer, 6)), [str(number) for number in range(4, 10)])
        consumer.commit_with_epoch(at, 7, epoch)
        equal("the committed epoch", consumer.committed_epoch(at), epoch)


@case("records/pause")
def pause(env):
    topic = env.topic(2)
    quiet, busy = (topic, 0), (topic, 1)
    with env.consumer() as consumer:
        consumer.assign([(*quiet, 0), (*busy, 0)])
        consumer.pause([quiet])
        fill(env, topic, ["quiet"], 0)
        fill(env, topic, ["a", "b"], 1)
        equal("while paused", values(read(consumer, 2)), ["a", "b"])
        for _ in range(5):
            equal("records of a paused partition", consumer.poll(0.1), [])
        consumer.resume([quiet])
        equal("after", values(read(consumer, 1)), ["quiet"])


@case("records/long-poll")
def long_poll(env):
    topic = env.topic()
    with env.consumer(fetch_max_wait_ms=20_000) as consumer:
        consumer.assign([(topic, 0, 0)])
        for _ in range(10):
            equal("records of an empty topic", consumer.poll(0.1), [])
        sent = time.monotonic()
        fill(env, topic, ["x"])
        read(consumer, 1)
        holds("the waiting fetch is answered at once", time.monotonic() - sent < 5, time.monotonic() - sent)


@case("records/many-small")
def many_small(env):
    topic = env.topic()
    with env.producer(linger_ms=0) as producer:
        offsets = [producer.send(topic, str(number).encode()).get() for number in range(1000)]
    equal("offsets", offsets, list(range(1000)))
    equal("records", len(read_all(env, topic)), 1000)


@case("records/many-partitions")
def many_partitions(env):
    topic = env.topic(60)
    with env.producer() as producer:
        for number in range(600):
            producer.send(topic, str(number).encode(), partition=number % 60)
        producer.flush()
    found = read_all(env, topic, 60)
    equal("values", sorted(int(r.value) for r in found), list(range(600)))
    holds("each in its partition", all(int(r.value) % 60 == r.partition for r in found))
