"""confluent-kafka: librdkafka for Python."""

import contextlib
import logging
import time

import confluent_kafka as ck
from confluent_kafka import admin as ca

from client import Closing, Config, Endpoint, Group, Member, Record, Refused, refusal

OPERATIONS = {
    "set": ca.AlterConfigOpType.SET,
    "delete": ca.AlterConfigOpType.DELETE,
    "append": ca.AlterConfigOpType.APPEND,
    "subtract": ca.AlterConfigOpType.SUBTRACT,
}
SOURCES = {1: "topic", 2: "broker", 3: "broker", 4: "broker", 5: "default"}
KINDS = {"topic": ca.ResourceType.TOPIC, "broker": ca.ResourceType.BROKER}
RENAMED = {"fetch.max.wait.ms": "fetch.wait.max.ms", "max.request.size": "message.max.bytes"}
RENAMED["metadata.max.age.ms"] = "topic.metadata.refresh.interval.ms"
NAME = "confluent-kafka"
NO_RESET = "error"
IMPATIENT = {"message.timeout.ms": 3000}
SMALL_FETCH = {"fetch_message_max_bytes": 1000}
WAIT = 30
SILENT = logging.getLogger("librdkafka")
SILENT.setLevel(logging.CRITICAL + 1)


def versions():
    return {"confluent-kafka": ck.__version__, "librdkafka": ck.libversion()[0]}


def failure(error):
    names = {"_FENCED": "PRODUCER_FENCED", "_AUTO_OFFSET_RESET": "OFFSET_OUT_OF_RANGE"}
    name = names.get(error.name(), error.name())
    # What is fatal has its reason only in the text.
    if name == "_FATAL" and "group.instance.id" in error.str():
        name = "FENCED_INSTANCE_ID"
    return refusal(error.code(), name, error.str())


@contextlib.contextmanager
def refusing():
    try:
        yield
    except ck.KafkaException as error:
        raise failure(error.args[0]) from error


def settings_of(endpoint, settings):
    mine = {"bootstrap.servers": endpoint.address, "security.protocol": endpoint.protocol, "logger": SILENT}
    if endpoint.ca:
        mine["ssl.ca.location"] = endpoint.ca
    if endpoint.certificate:
        mine |= {"ssl.certificate.location": endpoint.certificate, "ssl.key.location": endpoint.key}
    if endpoint.mechanism:
        mine |= {"sasl.mechanism": endpoint.mechanism}
        mine |= {"sasl.username": endpoint.user, "sasl.password": endpoint.password}
    return mine | {RENAMED.get(key, key): value for key, value in settings.items()}


def partition_of(partition, offset=ck.OFFSET_INVALID):
    return ck.TopicPartition(partition[0], partition[1], offset)


class Delivery:
    def __init__(self, client):
        self.client, self.error, self.message = client, None, None

    def __call__(self, error, message):
        self.error, self.message = error, message

    def get(self, seconds=WAIT):
        """Offset of the stored record."""
        deadline = time.monotonic() + seconds
        while self.message is None and self.error is None:
            if time.monotonic() > deadline:
                raise Refused("TIMEOUT", "no delivery report")
            with refusing():
                self.client.poll(0.02)
        if self.error is not None:
            raise failure(self.error)
        return self.message.offset()


class Producer(Closing):
    def __init__(self, endpoint, settings):
        with refusing():
            self.client = ck.Producer(settings_of(endpoint, settings))
            if "transactional.id" in settings:
                self.client.init_transactions(WAIT)

    def send(self, topic, value=None, key=None, partition=None, headers=(), timestamp=None):
        delivery = Delivery(self.client)
        more = {} if partition is None else {"partition": partition}
        if timestamp is not None:
            more["timestamp"] = timestamp
        try:
            self.client.produce(topic, value, key, headers=list(headers), on_delivery=delivery, **more)
        except ck.KafkaException as error:
            delivery.error = error.args[0]
        return delivery

    def flush(self):
        self.client.flush(WAIT)

    def begin(self):
        with refusing():
            self.client.begin_transaction()

    def commit(self):
        with refusing():
            self.client.commit_transaction(WAIT)

    def abort(self):
        with refusing():
            self.client.abort_transaction(WAIT)

    def send_offsets(self, offsets, consumer):
        with refusing():
            positions = [partition_of(partition, offset) for partition, offset in offsets.items()]
            self.client.send_offsets_to_transaction(positions, consumer.client.consumer_group_metadata(), WAIT)

    def close(self):
        self.client.purge()
        self.client.flush(5)


class Consumer(Closing):
    def __init__(self, endpoint, settings):
        mine = {"group.id": "none", "enable.partition.eof": True}
        self.client = ck.Consumer(mine | settings_of(endpoint, settings))
        self.ends = {}

    def subscribe(self, topics, on_revoke=None):
        more = {}
        if on_revoke:
            more["on_revoke"] = lambda _, lost: on_revoke({(p.topic, p.partition) for p in lost})
        self.client.subscribe(topics, **more)

    def subscribe_pattern(self, text):
        self.client.subscribe([f"^{text}"])

    def assign(self, partitions):
        places = [(topic, number, ck.OFFSET_STORED if at is None else at) for topic, number, at in partitions]
        self.client.assign([ck.TopicPartition(*place) for place in places])

    def poll(self, seconds):
        # One at a time: asking for more could call back about a rebalance while the first is still unseen.
        with refusing():
            message = self.client.poll(seconds)
        if message is None:
            return []
        if message.error() and message.error().code() != ck.KafkaError._PARTITION_EOF:
            raise failure(message.error())
        if message.error():
            self.ends[message.topic(), message.partition()] = message.offset()
            return []
        return [record_of(message)]

    def assignment(self):
        return {(p.topic, p.partition) for p in self.client.assignment()}

    def seek(self, partition, offset, leader_epoch=None):
        with refusing():
            more = {} if leader_epoch is None else {"leader_epoch": leader_epoch}
            self.client.seek(ck.TopicPartition(*partition, offset, **more))

    def pause(self, partitions):
        self.client.pause([partition_of(p) for p in partitions])

    def resume(self, partitions):
        self.client.resume([partition_of(p) for p in partitions])

    def position(self, partition):
        return self.client.position([partition_of(partition)])[0].offset

    def is_at(self, partition, end):
        # The position does not move over control records; the event of the partition's end does.
        return max(self.position(partition), self.ends.get(partition, 0)) >= end

    def commit(self, offsets):
        with refusing():
            positions = [ck.TopicPartition(*at, offset, metadata) for at, (offset, metadata) in offsets.items()]
            for done in self.client.commit(offsets=positions, asynchronous=False):
                if done.error:
                    raise failure(done.error)

    def committed(self, partition):
        with refusing():
            found = self.client.committed([partition_of(partition)], WAIT)[0]
        return None if found.offset < 0 else (found.offset, found.metadata or "")

    def commit_with_epoch(self, partition, offset, epoch):
        with refusing():
            self.client.commit(offsets=[ck.TopicPartition(*partition, offset, leader_epoch=epoch)], asynchronous=False)

    def committed_epoch(self, partition):
        return self.client.committed([partition_of(partition)], WAIT)[0].leader_epoch

    def beginning(self, partition):
        with refusing():
            return self.client.get_watermark_offsets(partition_of(partition), WAIT)[0]

    def end(self, partition):
        with refusing():
            return self.client.get_watermark_offsets(partition_of(partition), WAIT)[1]

    def offset_at(self, partition, timestamp):
        """The first offset whose record is not older; None when there is none."""
        with refusing():
            found = self.client.offsets_for_times([partition_of(partition, timestamp)], WAIT)[0].offset
        return None if found < 0 else found

    def close(self):
        self.client.close()


def record_of(message):
    kind, timestamp = message.timestamp()
    kind = "append" if kind == ck.TIMESTAMP_LOG_APPEND_TIME else "create"
    place = (message.topic(), message.partition(), message.offset())
    return Record(*place, timestamp, kind, message.key(), message.value(), list(message.headers() or []), message.leader_epoch())


class Admin(Closing):
    def __init__(self, endpoint):
        self.client = ca.AdminClient(settings_of(endpoint, {}))

    def one(self, futures):
        with refusing():
            return next(iter(futures.values())).result(WAIT)

    def create_topic(self, name, partitions=1, configs=None, validate_only=False, replication=1):
        topic = ca.NewTopic(name, partitions, replication, config=configs or {})
        self.one(self.client.create_topics([topic], validate_only=validate_only))

    def delete_topic(self, name):
        self.one(self.client.delete_topics([name]))

    def partitions(self, name):
        """Number of partitions; None when there is no such topic."""
        with refusing():
            found = self.client.list_topics(timeout=WAIT).topics.get(name)
        return found and len(found.partitions)

    def grow(self, name, partitions, validate_only=False):
        wanted = ca.NewPartitions(name, partitions)
        self.one(self.client.create_partitions([wanted], validate_only=validate_only))

    def configs(self, kind, name):
        found = self.one(self.client.describe_configs([ca.ConfigResource(KINDS[kind], name)]))
        return {key: Config(entry.value, SOURCES.get(int(entry.source), "?")) for key, entry in found.items()}

    def alter_configs(self, kind, name, changes):
        """Changes are triples: set, delete, append or subtract; key; value."""
        entries = [ca.ConfigEntry(key, value, incremental_operation=OPERATIONS[op]) for op, key, value in changes]
        resource = ca.ConfigResource(KINDS[kind], name, incremental_configs=entries)
        self.one(self.client.incremental_alter_configs([resource]))

    def replace_configs(self, kind, name, configs):
        self.one(self.client.alter_configs([ca.ConfigResource(KINDS[kind], name, set_config=configs)]))

    def delete_records(self, partition, offset):
        """The partition's low watermark afterwards."""
        return self.one(self.client.delete_records([partition_of(partition, offset)])).low_watermark

    def offset(self, partition, spec, isolation="read_uncommitted"):
        """Offset and timestamp at `earliest`, `latest`, `max` or a timestamp."""
        specs = {"earliest": ca.OffsetSpec.earliest(), "latest": ca.OffsetSpec.latest()}
        specs["max"] = ca.OffsetSpec.max_timestamp()
        at = specs[spec] if spec in specs else ca.OffsetSpec.for_timestamp(spec)
        level = ck.IsolationLevel[isolation.upper()]
        found = self.one(self.client.list_offsets({partition_of(partition): at}, isolation_level=level))
        return found.offset, found.timestamp

    def groups(self, state=None):
        """State by group, only groups in `state` when given."""
        more = {"states": {ck.ConsumerGroupState[state.upper()]}} if state else {}
        with refusing():
            found = self.client.list_consumer_groups(**more).result(WAIT)
        return {group.group_id: group.state.name.title() for group in found.valid}

    def describe_group(self, group):
        found = self.one(self.client.describe_consumer_groups([group]))
        members = [
            Member(m.client_id, m.group_instance_id, frozenset((p.topic, p.partition) for p in m.assignment.topic_partitions))
            for m in found.members
        ]
        return Group(found.state.name.title(), found.partition_assignor, members)

    def delete_group(self, group):
        self.one(self.client.delete_consumer_groups([group]))

    def group_offsets(self, group):
        found = self.one(self.client.list_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(group)]))
        return {(p.topic, p.partition): (p.offset, p.metadata or "") for p in found.topic_partitions}

    def alter_group_offsets(self, group, offsets):
        positions = [partition_of(partition, offset) for partition, offset in offsets.items()]
        wanted = ck.ConsumerGroupTopicPartitions(group, positions)
        for done in self.one(self.client.alter_consumer_group_offsets([wanted])).topic_partitions:
            if done.error:
                raise failure(done.error)

    def cluster(self):
        """Cluster id, controller and {node: (host, port)}."""
        with refusing():
            found = self.client.describe_cluster().result(WAIT)
        nodes = {node.id: (node.host, node.port) for node in found.nodes}
        return found.cluster_id, found.controller.id, nodes

    def acls(self):
        everything = ca.AclBindingFilter(
            ca.ResourceType.ANY, None, ca.ResourcePatternType.ANY, None, None, ca.AclOperation.ANY, ca.AclPermissionType.ANY
        )
        with refusing():
            return self.client.describe_acls(everything).result(WAIT)

    def set_scram_password(self, endpoint: Endpoint):
        mechanism = ca.ScramMechanism[endpoint.mechanism.replace("-", "_")]
        info = ca.ScramCredentialInfo(mechanism, 4096)
        wanted = ca.UserScramCredentialUpsertion(endpoint.user, info, endpoint.password.encode())
        self.one(self.client.alter_user_scram_credentials([wanted]))

    def close(self):
        pass


producer, consumer, admin = Producer, Consumer, Admin
