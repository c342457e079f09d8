"""Transactions: all or nothing, fenced, timed out, and seen in the logs' offsets."""

import random
import time

from cases import fill, read, read_all, values
from client import Refused, refused
from harness import Failed, case, equal, eventually, holds

FENCED = ("PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")


def committed(env, topic, partitions=1):
    return values(read_all(env, topic, partitions, isolation_level="read_committed"))


def comes_to(env, topic, wanted):
    """Waits for what read_committed sees: a broker may end a transaction a moment after its producer is told."""
    eventually(f"{wanted} committed", lambda: equal("committed", committed(env, topic), wanted) is None)


def uncommitted(env, topic, partitions=1):
    return values(read_all(env, topic, partitions, isolation_level="read_uncommitted"))


def send(producer, topic, *texts, partition=0):
    for text in texts:
        producer.send(topic, text.encode(), partition=partition).get()


@case("transactions/commit")
def commit(env):
    topic = env.topic(2)
    with env.producer(transactional_id=env.name()) as producer:
        producer.begin()
        send(producer, topic, "a", partition=0)
        send(producer, topic, "b", partition=1)
        equal("committed records before", committed(env, topic, 2), [])
        equal("all records before", uncommitted(env, topic, 2), ["a", "b"])
        producer.commit()
        eventually("both records", lambda: committed(env, topic, 2) == ["a", "b"])


@case("transactions/abort")
def abort(env):
    topic = env.topic()
    with env.producer(transactional_id=env.name()) as producer:
        producer.begin()
        send(producer, topic, "aborted-1", "aborted-2")
        producer.abort()
        producer.begin()
        send(producer, topic, "good")
        producer.commit()
    fill(env, topic, ["plain"])
    comes_to(env, topic, ["good", "plain"])
    equal("all", uncommitted(env, topic), ["aborted-1", "aborted-2", "good", "plain"])


@case("transactions/empty")
def empty(env):
    topic = env.topic()
    with env.producer(transactional_id=env.name()) as producer:
        producer.begin()
        producer.commit()
        producer.begin()
        producer.abort()
        producer.begin()
        send(producer, topic, "a")
        producer.commit()
    comes_to(env, topic, ["a"])
    equal("offset of the record", read_all(env, topic)[0].offset, 0)


@case("transactions/interleaved")
def interleaved(env):
    topic = env.topic()
    with env.producer(transactional_id=env.name()) as one, env.producer(transactional_id=env.name()) as two:
        one.begin()
        two.begin()
        for number in range(10):
            send(one, topic, f"one-{number}")
            send(two, topic, f"two-{number}")
        fill(env, topic, ["plain"])
        two.commit()
        equal("committed while the first is open", committed(env, topic), [])
        one.abort()
    wanted = [f"two-{number}" for number in range(10)] + ["plain"]
    eventually("the second's records", lambda: committed(env, topic) == wanted)
    equal("all", len(uncommitted(env, topic)), 21)


@case("transactions/last-stable-offset")
def last_stable_offset(env):
    topic = env.topic()
    fill(env, topic, ["a", "b"])
    at = (topic, 0)
    with env.producer(transactional_id=env.name()) as producer:
        producer.begin()
        send(producer, topic, "c")
        fill(env, topic, ["d"])
        with env.consumer(isolation_level="read_committed") as consumer:
            equal("end of read_committed", consumer.end(at), 2)
            consumer.assign([(*at, 0)])
            equal("records before the open one", values(read(consumer, 2)), ["a", "b"])
            for _ in range(5):
                equal("records behind it", consumer.poll(0.1), [])
            with env.consumer(isolation_level="read_uncommitted") as other:
                equal("end of read_uncommitted", other.end(at), 4)
            producer.commit()
            equal("records afterwards", values(read(consumer, 2)), ["c", "d"])
    with env.consumer(isolation_level="read_committed") as consumer:
        # Records and the commit's marker.
        eventually("the end behind the marker", lambda: consumer.end(at) == 5)


@case("transactions/fencing")
def fencing(env):
    topic, name = env.topic(), env.name()
    with env.producer(transactional_id=name) as old:
        old.begin()
        send(old, topic, "old")
        with env.producer(transactional_id=name) as young:

            def go_on():
                send(old, topic, "late")
                old.commit()

            error = refused(go_on)
            holds("the older producer is fenced", error in FENCED, error)
            young.begin()
            send(young, topic, "young")
            young.commit()
    comes_to(env, topic, ["young"])


@case("transactions/timeout")
def timeout(env):
    topic = env.topic()
    with env.producer(transactional_id=env.name(), transaction_timeout_ms=1000) as producer:
        producer.begin()
        send(producer, topic, "forgotten")
        fill(env, topic, ["plain"])
        eventually("the broker's abort", lambda: committed(env, topic) == ["plain"], 30)

        def go_on():
            send(producer, topic, "late")
            producer.commit()

        error = refused(go_on)
        holds("its producer is told", error is not None)
    comes_to(env, topic, ["plain"])


@case("transactions/timeout-limit")
def timeout_limit(env):
    # Kafka's transaction.max.timeout.ms is 15 minutes.
    def start():
        with env.producer(transactional_id=env.name(), transaction_timeout_ms=3_600_000):
            pass

    equal("error", refused(start), "INVALID_TRANSACTION_TIMEOUT")


@case("transactions/offsets")
def offsets(env):
    source, group = env.topic(), env.name()
    at = (source, 0)
    fill(env, source, ["a", "b", "c"])
    with env.consumer(group) as consumer, env.producer(transactional_id=env.name()) as producer:
        consumer.subscribe([source])
        read(consumer, 3)
        producer.begin()
        producer.send_offsets({at: 1}, consumer)
        producer.abort()
        equal("offset after an abort", consumer.committed(at), None)
        producer.begin()
        producer.send_offsets({at: 2}, consumer)
        producer.commit()
        eventually("the committed offset", lambda: (consumer.committed(at) or (0,))[0] == 2)
        producer.begin()
        producer.send_offsets({at: 3}, consumer)
        producer.abort()
        equal("offset after another abort", consumer.committed(at)[0], 2)


def pump(env, source, target, group, crash):
    """Copies from one topic to the other, one transaction for each batch; some are aborted, and with `crash` the
    producer is forgotten in the middle of one. Whether the source was copied to its end."""
    dice = random.Random(crash)
    # A producer with the same name first ends what the one before left open.
    with env.producer(transactional_id=f"{group}-pump", linger_ms=1) as producer, env.consumer(group) as consumer:
        places = [(source, number) for number in range(2)]
        ends = {at: consumer.end(at) for at in places}
        consumer.subscribe([source])
        eventually("the assignment", lambda: consumer.poll(0.1) is not None and len(consumer.assignment()) == 2)
        positions = {at: (consumer.committed(at) or (0,))[0] for at in places}
        turn = 0
        while positions != ends:
            if turn > 400:
                raise Failed(f"copied only to {positions}")
            for at, offset in positions.items():
                consumer.seek(at, offset)
            batch = read_some(consumer)
            producer.begin()
            for record in batch:
                producer.send(target, record.value, partition=record.partition)
            if crash and turn == 5:
                return False
            moved = {(record.topic, record.partition): record.offset + 1 for record in batch}
            producer.send_offsets(moved, consumer)
            if dice.random() < 0.6:
                producer.commit()
                positions |= moved
            else:
                producer.abort()
            turn += 1
    return True


def read_some(consumer):
    """A batch of at most twenty records, as many as come without waiting."""
    batch = eventually("records", lambda: consumer.poll(0.3))
    while len(batch) < 20 and (more := consumer.poll(0.05)):
        batch += more
    return batch[:20]


@case("transactions/read-process-write")
def read_process_write(env):
    source, target, group = env.topic(2), env.topic(2), env.name()
    for partition in range(2):
        fill(env, source, [str(number) for number in range(partition, 200, 2)], partition)
    equal("the first ends early", pump(env, source, target, group, crash=True), False)
    equal("the second at the end", pump(env, source, target, group, crash=False), True)
    eventually("all records", lambda: len(committed(env, target, 2)) >= 200)
    found = read_all(env, target, 2, isolation_level="read_committed")
    for partition in range(2):
        got = [int(record.value) for record in found if record.partition == partition]
        equal(f"partition {partition}", got, list(range(partition, 200, 2)))


@case("transactions/many-topics")
def many_topics(env):
    topics = [env.topic(2) for _ in range(5)]
    with env.producer(transactional_id=env.name()) as producer:
        for turn in range(6):
            producer.begin()
            for topic in topics:
                for partition in range(2):
                    send(producer, topic, f"{turn}", partition=partition)
            producer.abort() if turn % 2 else producer.commit()
    for topic in topics:
        eventually(f"{topic}", lambda topic=topic: committed(env, topic, 2) == ["0", "2", "4"] * 2)


@case("transactions/restart")
def restart(env):
    topic, name = env.topic(), env.name()
    for turn in range(5):
        with env.producer(transactional_id=name) as producer:
            producer.begin()
            send(producer, topic, str(turn))
            producer.commit()
    comes_to(env, topic, ["0", "1", "2", "3", "4"])


@case("transactions/describe-producers")
def describe_producers(env):
    topic = env.topic()
    with env.producer(transactional_id=env.name()) as producer, env.admin() as admin:
        producer.begin()
        send(producer, topic, "a", "b")
        ((identity, epoch, sequence, start),) = admin.producers((topic, 0))
        holds("an id and an epoch", identity >= 0 and epoch >= 0, (identity, epoch))
        equal("last sequence and start of the open transaction", (sequence, start), (1, 0))
        producer.commit()
        open_since = lambda: admin.producers((topic, 0))[0][3]
        eventually("no open transaction", lambda: open_since() == -1)
        error = refused(lambda: admin.producers((env.name(), 0)))
        equal("error of an unknown topic", error, "UNKNOWN_TOPIC_OR_PARTITION")


@case("transactions/list-and-describe")
def list_and_describe(env):
    topic, name = env.topic(2), env.name()
    with env.producer(transactional_id=name, transaction_timeout_ms=50_000) as producer, env.admin() as admin:
        equal("state before the first", admin.transactions().get(name), "Empty")
        producer.begin()
        send(producer, topic, "a", partition=1)
        equal("state", admin.transactions().get(name), "Ongoing")
        holds("found by state", name in admin.transactions(states=["Ongoing"]))
        holds("not in another state", name not in admin.transactions(states=["CompleteAbort"]))
        found = admin.transaction(name)
        equal("description", (found.state.value, found.transaction_timeout_ms), ("Ongoing", 50_000))
        equal("partitions", {tuple(at) for at in found.topic_partitions}, {(topic, 1)})
        holds("start", abs(found.transaction_start_time_ms - time.time() * 1000) < 60_000)
        holds("found by producer", name in admin.transactions(producer_ids=[found.producer_id]))
        holds("not with another", name not in admin.transactions(producer_ids=[found.producer_id + 100_000]))
        producer.commit()
        eventually("the end", lambda: admin.transactions().get(name) == "CompleteCommit")
        equal("partitions afterwards", set(admin.transaction(name).topic_partitions), set())
        error = refused(lambda: admin.transaction(env.name()))
        equal("error of an unknown id", error, "TRANSACTIONAL_ID_NOT_FOUND")


@case("transactions/abort-by-admin")
def abort_by_admin(env):
    topic = env.topic()
    with env.producer(transactional_id=env.name()) as producer, env.admin() as admin:
        producer.begin()
        send(producer, topic, "hanging")
        ((identity, epoch, _, _),) = admin.producers((topic, 0))
        admin.abort_transaction((topic, 0), identity, epoch)
        fill(env, topic, ["plain"])
        eventually("reading goes on", lambda: committed(env, topic) == ["plain"])
