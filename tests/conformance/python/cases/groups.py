"""Consumer groups: who gets what, what happens when members come and go, committed offsets."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from cases import await_error, fill, read, values
from client import refused
from harness import Failed, case, equal, eventually, holds


class Worker:
    """A member of a group that polls in a thread of its own and keeps what it read and was assigned."""

    def __init__(self, env, group, topic, *, commits=False, pattern=False, **settings):
        self.seen, self.error, self.assigned, self.revocations = [], None, set(), []
        self.stopping = threading.Event()
        self.is_leaving = True
        self.commits = commits
        quick = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300, "metadata_max_age_ms": 500}
        quick["partition_assignment_strategy"] = "range"
        self.consumer = env.consumer(group, **(quick | settings))
        self.next_of = {}
        if pattern:
            self.consumer.subscribe_pattern(topic)
        else:
            self.consumer.subscribe([topic], self.on_revoke)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def on_revoke(self, lost):
        self.revocations.append(lost)
        self.commit_of(lost)

    def commit_of(self, places):
        mine = {at: (self.next_of.pop(at), "") for at in places if at in self.next_of}
        if self.commits and mine:
            self.consumer.commit(mine)

    def work(self):
        try:
            while not self.stopping.is_set():
                for record in self.consumer.poll(0.1):
                    self.seen.append(record)
                    self.next_of[record.topic, record.partition] = record.offset + 1
                self.assigned = self.consumer.assignment()
            if self.is_leaving:
                self.commit_of(set(self.next_of))
                self.consumer.close()
        except Exception as error:
            self.error = error

    @property
    def numbers(self):
        """Numbers of the partitions assigned."""
        if self.error:
            raise Failed(f"the member ended with {type(self.error).__name__}: {self.error}")
        return sorted(number for _, number in self.assigned)

    def stop(self):
        """Ends the member, which leaves the group unless it is static."""
        self.stopping.set()
        self.thread.join(30)
        holds("the member ends", not self.thread.is_alive())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(30)


def shared_out(workers, wanted):
    """Waits until the members have these partitions, in whatever order of members."""

    def probe():
        found = sorted(worker.numbers for worker in workers)
        if found != sorted(wanted):
            raise Failed(f"assigned {found}")
        return True

    eventually(f"the assignment {wanted}", probe, 40)


def assignor(env, name, partitions, wanted):
    topic, group = env.topic(partitions), env.name()
    with Worker(env, group, topic, partition_assignment_strategy=name) as one:
        shared_out([one], [list(range(partitions))])
        with Worker(env, group, topic, partition_assignment_strategy=name) as two:
            shared_out([one, two], wanted)
            for number in range(partitions):
                fill(env, topic, [str(number)], number)
            both = lambda: sorted(int(r.value) for r in one.seen + two.seen) == list(range(partitions))
            eventually("each record once", both)
            for worker in (one, two):
                places = {record.partition for record in worker.seen}
                equal("partitions read", sorted(places), worker.numbers)


@case("groups/range")
def range_assignor(env):
    assignor(env, "range", 5, [[0, 1, 2], [3, 4]])


@case("groups/round-robin")
def round_robin(env):
    assignor(env, "roundrobin", 5, [[0, 2, 4], [1, 3]])


@case("groups/cooperative-sticky")
def cooperative_sticky(env):
    topic, group = env.topic(4), env.name()
    sticky = {"partition_assignment_strategy": "cooperative-sticky"}
    with Worker(env, group, topic, **sticky) as one:
        shared_out([one], [[0, 1, 2, 3]])
        before = set(one.numbers)
        with Worker(env, group, topic, **sticky) as two:
            eventually("two partitions each", lambda: len(one.numbers) == len(two.numbers) == 2)
            equal("every partition", sorted(one.numbers + two.numbers), [0, 1, 2, 3])
            holds("the first keeps two of its own", set(one.numbers) <= before)
            given = [sorted(number for _, number in lost) for lost in one.revocations]
            equal("what the first gave away", given, [two.numbers])
            kept = one.numbers
        eventually("all back", lambda: one.numbers == [0, 1, 2, 3])
        equal("it lost nothing more", len(one.revocations), 1)
        holds("and kept its own all the time", set(kept) <= set(one.numbers))


def write_on(env, topic, members, stop):
    """Writes numbers until told to stop, never far ahead of what the members have read; how many."""
    written = 0
    with env.producer(linger_ms=2) as producer:
        while not stop.is_set():
            for number in range(written, written + 50):
                producer.send(topic, str(number).encode(), partition=number % 6)
            producer.flush()
            written += 50
            followed = lambda: stop.is_set() or sum(len(member.seen) for member in members) > written - 200
            eventually("the members follow", followed)
    return written


@case("groups/join-leave")
def join_leave(env):
    topic, group, stop = env.topic(6), env.name(), threading.Event()
    members = [Worker(env, group, topic, commits=True)]
    with members[0], ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_on, env, topic, members, stop)
        try:
            members.append(Worker(env, group, topic, commits=True))
            eventually("the second has three", lambda: len(members[1].numbers) == 3)
            members.append(Worker(env, group, topic, commits=True))
            eventually("the third has two", lambda: len(members[2].numbers) == 2)
            members[1].stop()
            shared_out([members[0], members[2]], [[0, 1, 2], [3, 4, 5]])
            members[2].stop()
        finally:
            stop.set()
        total = writing.result()
        seen = lambda: [int(record.value) for member in members for record in member.seen]
        eventually("all records", lambda: len(seen()) >= total, 60)
        equal("each record once", sorted(seen()), list(range(total)))


@case("groups/static-member")
def static_member(env):
    topic, group = env.topic(4), env.name()
    with Worker(env, group, topic, group_instance_id="one") as one:
        eventually("all four", lambda: one.numbers == [0, 1, 2, 3])
        two = Worker(env, group, topic, group_instance_id="two")
        shared_out([one, two], [[0, 1], [2, 3]])
        mine, theirs = one.numbers, two.numbers
        revoked = len(one.revocations)
        two.stop()
        with Worker(env, group, topic, group_instance_id="two") as again:
            eventually("its partitions again", lambda: again.numbers == theirs)
            fill(env, topic, ["x"], mine[0])
            eventually("the other goes on", lambda: values(one.seen) == ["x"])
            equal("the other kept its partitions", (one.numbers, len(one.revocations)), (mine, revoked))


@case("groups/dead-member")
def dead_member(env):
    topic, group = env.topic(4), env.name()
    with Worker(env, group, topic) as one:
        two = Worker(env, group, topic, group_instance_id="static")
        shared_out([one, two], [[0, 1], [2, 3]])
        # A static member that closes does not leave: the broker misses its heartbeats.
        begun = time.monotonic()
        two.stop()
        eventually("all partitions", lambda: one.numbers == [0, 1, 2, 3], 30)
        holds("not before the session's end", time.monotonic() - begun > 3, time.monotonic() - begun)


@case("groups/fenced-member")
def fenced_member(env):
    topic, group = env.topic(), env.name()
    with Worker(env, group, topic, group_instance_id="same") as one:
        eventually("assigned", lambda: one.numbers == [0])
        with Worker(env, group, topic, group_instance_id="same") as two:
            eventually("the second has it", lambda: two.numbers == [0])
            error = lambda: getattr(one.error, "name", one.error)
            eventually("the first is told", lambda: error() == "FENCED_INSTANCE_ID")


@case("groups/first-record")
def first_record(env):
    topic = env.topic()
    fill(env, topic, ["x"])
    begun = time.monotonic()
    with Worker(env, env.name(), topic) as worker:
        eventually("the record", lambda: values(worker.seen) == ["x"])
    holds("within seconds", time.monotonic() - begun < 15, time.monotonic() - begun)


@case("groups/offset-reset")
def offset_reset(env):
    topic = env.topic()
    fill(env, topic, ["old"])
    with Worker(env, env.name(), topic, auto_offset_reset="earliest") as earliest:
        with Worker(env, env.name(), topic, auto_offset_reset="latest") as latest:

            def sees_new():
                fill(env, topic, ["new"])
                return latest.seen and earliest.seen

            eventually("both read", sees_new)
            equal("first of earliest", earliest.seen[0].value, b"old")
            holds("latest has nothing old", b"old" not in [r.value for r in latest.seen])
    with env.consumer(env.name(), auto_offset_reset=env.library.NO_RESET) as consumer:
        consumer.subscribe([topic])
        error = await_error(consumer)
        holds("an error without a policy", error in ("OFFSET_OUT_OF_RANGE", "NoOffsetForPartitionError"), error)


@case("groups/commit")
def commit(env):
    topic, group = env.topic(2), env.name()
    fill(env, topic, [str(number) for number in range(10)], 0)
    one, two = (topic, 0), (topic, 1)
    with env.consumer(group) as consumer:
        consumer.subscribe([topic])
        read(consumer, 10)
        equal("before", consumer.committed(one), None)
        consumer.commit({one: (4, "four")})
        found = consumer.committed(one)
        holds("the offset and its metadata", found in [(4, "four"), (4, None)], found)
        consumer.commit({one: (7, "")})
        equal("the last one counts", consumer.committed(one)[0], 7)
        equal("the other partition", consumer.committed(two), None)
    with env.consumer(group) as consumer:
        consumer.subscribe([topic])
        equal("goes on there", values(read(consumer, 3)), ["7", "8", "9"])


@case("groups/commit-without-group-management")
def commit_alone(env):
    topic, group = env.topic(), env.name()
    at = (topic, 0)
    fill(env, topic, ["a", "b", "c"])
    with env.consumer(group) as consumer:
        consumer.assign([(*at, 0)])
        read(consumer, 3)
        consumer.commit({at: (2, "")})
    with env.consumer(group) as consumer:
        consumer.assign([(*at, None)])
        equal("goes on there", values(read(consumer, 1)), ["c"])


@case("groups/metadata-limit")
def metadata_limit(env):
    topic, group = env.topic(), env.name()
    at = (topic, 0)
    with env.consumer(group) as consumer:
        consumer.assign([(*at, 0)])
        consumer.commit({at: (0, "x" * 4000)})
        error = refused(lambda: consumer.commit({at: (0, "x" * 5000)}))
        equal("error above 4096 bytes", error, "OFFSET_METADATA_TOO_LARGE")


@case("groups/new-partitions")
def new_partitions(env):
    topic, group = env.topic(1), env.name()
    with Worker(env, group, topic) as worker, env.admin() as admin, env.producer(metadata_max_age_ms=500) as producer:
        eventually("one partition", lambda: worker.numbers == [0])
        producer.send(topic, b"first").get()
        admin.grow(topic, 3)
        eventually("three partitions", lambda: worker.numbers == [0, 1, 2])

        def spread():
            for number in range(20):
                producer.send(topic, b"x", f"key-{number}".encode()).get()
            return {record.partition for record in worker.seen} == {0, 1, 2}

        eventually("records in all three", spread)


@case("groups/pattern")
def pattern(env):
    prefix, group = env.name(), env.name()
    with env.admin() as admin:
        admin.create_topic(f"{prefix}-a", 1)
        with Worker(env, group, prefix, pattern=True) as worker:
            eventually("the first topic", lambda: worker.assigned == {(f"{prefix}-a", 0)})
            admin.create_topic(f"{prefix}-b", 1)
            both = {(f"{prefix}-a", 0), (f"{prefix}-b", 0)}
            eventually("the second one too", lambda: worker.assigned == both)


@case("groups/many")
def many(env):
    topic = env.topic(2)
    fill(env, topic, ["x"])
    workers = [Worker(env, env.name(), topic) for _ in range(12)]
    for worker in workers:
        eventually("a group's record", lambda worker=worker: worker.numbers == [0, 1] and values(worker.seen) == ["x"])
    for worker in workers:
        worker.stop()
