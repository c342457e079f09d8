"""aiokafka: an implementation of its own on asyncio, driven from one event loop in a thread."""

import asyncio
import contextlib
import logging
import ssl
import threading
import time

import aiokafka
from aiokafka import admin as aa
from aiokafka import errors as ae
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from client import Closing, Config, Group, Member, Refused, record_of, refusal

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

NAME = "aiokafka"
NO_RESET = "none"
IMPATIENT = {"request.timeout.ms": 3000}
SMALL_FETCH = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
SOURCES = {1: "topic", 2: "broker", 3: "broker", 4: "broker", 5: "default"}
RENAMED = {"batch.size": "max.batch.size"}
WAIT = 30

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def versions():
    return {"aiokafka": aiokafka.__version__}


def failure(error):
    names = {"ProducerFenced": "PRODUCER_FENCED"}
    kind = type(error).__name__
    return refusal(getattr(error, "errno", None), names.get(kind, kind), str(error))


@contextlib.contextmanager
def refusing():
    try:
        yield
    except ae.KafkaError as error:
        raise failure(error) from error


def wait(awaitable, seconds=WAIT):
    """The outcome of something that runs on the loop."""
    with refusing():
        return asyncio.run_coroutine_threadsafe(awaitable, LOOP).result(seconds)


def on_loop(function):
    """The result of a plain function that must be called on the loop."""

    async def call():
        return function()

    return wait(call())


def check(code, text=""):
    if code:
        kind = ae.for_code(code)
        raise refusal(code, kind.__name__, text or "")


def settings_of(endpoint, settings):
    mine = {"bootstrap_servers": endpoint.address, "security_protocol": endpoint.protocol}
    if endpoint.ca:
        mine["ssl_context"] = ssl.create_default_context(cafile=endpoint.ca)
    if endpoint.certificate:
        mine["ssl_context"].load_cert_chain(endpoint.certificate, endpoint.key)
    if endpoint.mechanism:
        mine |= {"sasl_mechanism": endpoint.mechanism}
        mine |= {"sasl_plain_username": endpoint.user, "sasl_plain_password": endpoint.password}
    mine |= {RENAMED.get(key, key).replace(".", "_"): value for key, value in settings.items()}
    if mine.get("compression_type") == "none":
        mine["compression_type"] = None
    if str(mine.get("acks", "")).isdigit():
        mine["acks"] = int(mine["acks"])
    if "partition_assignment_strategy" in mine:
        mine["partition_assignment_strategy"] = [ASSIGNORS[mine["partition_assignment_strategy"]]]
    return mine


async def started(kind, settings):
    """A started client; one that cannot start is closed."""
    client = kind(**settings)
    try:
        await client.start()
    except BaseException:
        await (client.close() if hasattr(client, "close") else client.stop())
        raise
    return client


class Delivery:
    def __init__(self, future):
        self.future = future

    def get(self, seconds=WAIT):
        async def outcome():
            return await self.future

        found = wait(outcome(), seconds)
        return None if found is None else found.offset


class Producer(Closing):
    def __init__(self, endpoint, settings):
        self.client = wait(started(aiokafka.AIOKafkaProducer, settings_of(endpoint, settings)))

    def send(self, topic, value=None, key=None, partition=None, headers=(), timestamp=None):
        more = {"partition": partition, "timestamp_ms": timestamp, "headers": list(headers)}
        try:
            return Delivery(wait(self.client.send(topic, value, key, **more)))
        except Refused as error:
            failed = LOOP.create_future()
            failed.set_exception(error)
            return Delivery(failed)

    def flush(self):
        wait(self.client.flush())

    def begin(self):
        wait(self.client.begin_transaction())

    def commit(self):
        wait(self.client.commit_transaction())

    def abort(self):
        wait(self.client.abort_transaction())

    def send_offsets(self, offsets, consumer):
        positions = {TopicPartition(*at): offset for at, offset in offsets.items()}
        wait(self.client.send_offsets_to_transaction(positions, consumer.group))

    def close(self):
        with contextlib.suppress(Refused, TimeoutError):
            wait(self.client.stop(), 5)


class Listener(aiokafka.ConsumerRebalanceListener):
    """Calls what a case wants done before partitions go; off the loop, which that needs itself."""

    def __init__(self, consumer, on_revoke):
        self.consumer, self.on_revoke = consumer, on_revoke

    async def on_partitions_revoked(self, revoked):
        if self.on_revoke and revoked:
            places = {tuple(partition) for partition in revoked}
            # A poll may have given records that its caller has not looked at; it has when it polls again.
            polls, deadline = self.consumer.polls, time.monotonic() + 1
            while self.consumer.polls == polls and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            await LOOP.run_in_executor(None, self.on_revoke, places)

    async def on_partitions_assigned(self, assigned):
        pass


class Consumer(Closing):
    def __init__(self, endpoint, settings):
        self.group, self.polls = settings.get("group.id"), 0
        self.client = wait(started(aiokafka.AIOKafkaConsumer, settings_of(endpoint, settings)))

    def subscribe(self, topics, on_revoke=None):
        on_loop(lambda: self.client.subscribe(topics, listener=Listener(self, on_revoke)))

    def subscribe_pattern(self, text):
        on_loop(lambda: self.client.subscribe(pattern=f"^{text}.*"))

    def assign(self, partitions):
        on_loop(lambda: self.client.assign([TopicPartition(topic, number) for topic, number, _ in partitions]))
        for topic, number, offset in partitions:
            if offset is not None:
                self.seek((topic, number), offset)

    def poll(self, seconds):
        self.polls += 1
        found = wait(self.client.getmany(timeout_ms=int(seconds * 1000)))
        return [record_of(record) for records in found.values() for record in records]

    def assignment(self):
        return {tuple(partition) for partition in self.client.assignment()}

    def seek(self, partition, offset):
        on_loop(lambda: self.client.seek(TopicPartition(*partition), offset))

    def pause(self, partitions):
        on_loop(lambda: self.client.pause(*[TopicPartition(*at) for at in partitions]))

    def resume(self, partitions):
        on_loop(lambda: self.client.resume(*[TopicPartition(*at) for at in partitions]))

    def position(self, partition):
        return wait(self.client.position(TopicPartition(*partition)))

    def is_at(self, partition, end):
        return self.position(partition) >= end

    def commit(self, offsets):
        wait(self.client.commit({TopicPartition(*at): OffsetAndMetadata(*place) for at, place in offsets.items()}))

    def committed(self, partition):
        """Without metadata, which this client does not give."""
        found = wait(self.client.committed(TopicPartition(*partition)))
        return None if found is None else (found, None)

    def beginning(self, partition):
        at = TopicPartition(*partition)
        return wait(self.client.beginning_offsets([at]))[at]

    def end(self, partition):
        at = TopicPartition(*partition)
        return wait(self.client.end_offsets([at]))[at]

    def offset_at(self, partition, timestamp):
        at = TopicPartition(*partition)
        found = wait(self.client.offsets_for_times({at: timestamp}))[at]
        return found and found.offset

    def close(self):
        with contextlib.suppress(Refused, TimeoutError):
            wait(self.client.stop(), 10)


class Admin(Closing):
    def __init__(self, endpoint):
        self.client = wait(started(aa.AIOKafkaAdminClient, settings_of(endpoint, {})))

    def create_topic(self, name, partitions=1, configs=None, validate_only=False, replication=1):
        topic = aa.NewTopic(name, partitions, replication, topic_configs=configs or {})
        for _, code, *text in wait(self.client.create_topics([topic], validate_only=validate_only)).topic_errors:
            check(code, str(text))

    def delete_topic(self, name):
        for _, code, *_ in wait(self.client.delete_topics([name])).topic_error_codes:
            check(code)

    def partitions(self, name):
        found = wait(self.client.describe_topics())
        return next((len(topic["partitions"]) for topic in found if topic["topic"] == name), None)

    def grow(self, name, partitions, validate_only=False):
        wait(self.client.create_partitions({name: aa.NewPartitions(partitions)}, validate_only=validate_only))

    def configs(self, kind, name):
        (answer,) = wait(self.client.describe_configs([ConfigResource(kind, name)]))
        ((code, text, _, _, entries),) = answer.resources
        check(code, text)
        return {key: Config(value, SOURCES.get(int(source), "?")) for key, value, _, source, *_ in entries}

    def replace_configs(self, kind, name, configs):
        answers = wait(self.client.alter_configs([ConfigResource(kind, name, configs)]))
        for answer in answers:
            for code, text, *_ in answer.resources:
                check(code, text)

    def delete_records(self, partition, offset):
        at = TopicPartition(*partition)
        return wait(self.client.delete_records({at: aa.RecordsToDelete(offset)}))[at]

    def groups(self):
        """Groups without their state, which this client does not give."""
        return {group: None for group, *_ in wait(self.client.list_consumer_groups())}

    def describe_group(self, group):
        (answer,) = wait(self.client.describe_consumer_groups([group]))
        ((code, _, state, _, assignor, members, *_),) = answer.groups
        check(code)
        return Group(state, assignor, [member_of(member) for member in members])

    def group_offsets(self, group):
        found = wait(self.client.list_consumer_group_offsets(group))
        return {tuple(at): (place.offset, place.metadata) for at, place in found.items()}

    def cluster(self):
        found = wait(self.client.describe_cluster())
        nodes = {node["node_id"]: (node["host"], node["port"]) for node in found["brokers"]}
        return found["cluster_id"], found["controller_id"], nodes

    def close(self):
        wait(self.client.close())


def member_of(member):
    """The fields' order is that of the protocol's response; the assignment is still in bytes."""
    from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment as Assignment

    _, *instance, client_id, _, _, assigned = member
    places = Assignment.decode(assigned).partitions() if assigned else []
    return Member(client_id, instance[0] if instance else None, frozenset(tuple(at) for at in places))


producer, consumer, admin = Producer, Consumer, Admin
