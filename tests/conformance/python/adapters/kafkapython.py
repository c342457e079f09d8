"""kafka-python: an implementation of its own in Python."""

import contextlib
import logging
import re
import uuid

import kafka
from kafka import OffsetAndMetadata, TopicPartition
from kafka import admin as ka
from kafka import errors as ke
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.protocol.consumer import IsolationLevel, OffsetSpec

from client import Closing, Config, Group, Member, Refused, record_of, refusal

logging.getLogger("kafka").setLevel(logging.CRITICAL)

NAME = "kafka-python"
NO_RESET = "none"
IMPATIENT = {"bootstrap.timeout.ms": 3000, "max.block.ms": 3000, "request.timeout.ms": 3000}
SMALL_FETCH = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}
SOURCES = {"dynamic_topic_config": "topic", "static_broker_config": "broker", "default_config": "default"}
WAIT = 30


def versions():
    return {"kafka-python": kafka.__version__}


def failure(error):
    # A few errors reach the caller only as text: `[Error 50] InvalidTxnTimeoutError: …`.
    found = re.search(r"\[Error (\d+)\]", str(error))
    code = getattr(error, "errno", None) or (found and int(found[1]))
    return refusal(code, type(error).__name__, str(error))


@contextlib.contextmanager
def refusing():
    try:
        yield
    except ke.KafkaError as error:
        raise failure(error) from error


def check(kind):
    """Raises an error class as the admin client returns it; `NoError` is none."""
    if isinstance(kind, str):
        kind = getattr(ke, kind, ke.NoError if kind == "OK" else ke.UnknownError)
    if kind is not ke.NoError:
        raise failure(kind())


def settings_of(endpoint, settings):
    mine = {"bootstrap_servers": endpoint.address, "security_protocol": endpoint.protocol}
    if endpoint.ca:
        mine["ssl_cafile"] = endpoint.ca
    if endpoint.certificate:
        mine |= {"ssl_certfile": endpoint.certificate, "ssl_keyfile": endpoint.key}
    if endpoint.mechanism:
        mine |= {"sasl_mechanism": endpoint.mechanism}
        mine |= {"sasl_plain_username": endpoint.user, "sasl_plain_password": endpoint.password}
    mine |= {key.replace(".", "_"): value for key, value in settings.items()}
    if mine.get("compression_type") == "none":
        mine["compression_type"] = None
    if str(mine.get("acks", "")).isdigit():
        mine["acks"] = int(mine["acks"])
    if "partition_assignment_strategy" in mine:
        mine["partition_assignment_strategy"] = [ASSIGNORS[mine["partition_assignment_strategy"]]]
    return mine


class Delivery:
    def __init__(self, future):
        self.future = future

    def get(self, seconds=WAIT):
        with refusing():
            return self.future.get(timeout=seconds).offset


class Producer(Closing):
    def __init__(self, endpoint, settings):
        with refusing():
            self.client = kafka.KafkaProducer(**settings_of(endpoint, settings))
            if "transactional.id" in settings:
                self.client.init_transactions()

    def send(self, topic, value=None, key=None, partition=None, headers=(), timestamp=None):
        with refusing():
            more = {"headers": list(headers), "partition": partition, "timestamp_ms": timestamp}
            return Delivery(self.client.send(topic, value, key, **more))

    def flush(self):
        with refusing():
            self.client.flush(WAIT)

    def begin(self):
        with refusing():
            self.client.begin_transaction()

    def commit(self):
        with refusing():
            self.client.commit_transaction()

    def abort(self):
        with refusing():
            self.client.abort_transaction()

    def send_offsets(self, offsets, consumer):
        positions = {TopicPartition(*at): OffsetAndMetadata(offset, "", -1) for at, offset in offsets.items()}
        with refusing():
            self.client.send_offsets_to_transaction(positions, consumer.client.group_metadata())

    def close(self):
        self.client.close(timeout=1)


class Listener(kafka.ConsumerRebalanceListener):
    def __init__(self, consumer, on_revoke):
        self.consumer, self.on_revoke = consumer, on_revoke

    def on_partitions_revoked(self, revoked):
        if self.on_revoke and revoked:
            self.consumer.is_in_callback = True
            self.on_revoke({tuple(partition) for partition in revoked})
            self.consumer.is_in_callback = False

    def on_partitions_assigned(self, assigned):
        pass


class Consumer(Closing):
    def __init__(self, endpoint, settings):
        with refusing():
            self.client = kafka.KafkaConsumer(**settings_of(endpoint, settings))
        self.is_in_callback = False

    def subscribe(self, topics, on_revoke=None):
        self.client.subscribe(topics, listener=Listener(self, on_revoke))

    def subscribe_pattern(self, text):
        self.client.subscribe(pattern=f"^{text}")

    def assign(self, partitions):
        self.client.assign([TopicPartition(topic, number) for topic, number, _ in partitions])
        for topic, number, offset in partitions:
            if offset is not None:
                self.client.seek(TopicPartition(topic, number), offset)

    def poll(self, seconds):
        # A member whose poll ends between the group's answers to its join and its sync loses the assignment for good.
        patient = max(seconds, 1.5) if self.client.subscription() else seconds
        with refusing():
            found = self.client.poll(timeout_ms=int(patient * 1000))
        return [record_of(record) for records in found.values() for record in records]

    def assignment(self):
        return {tuple(partition) for partition in self.client.assignment()}

    def seek(self, partition, offset):
        self.client.seek(TopicPartition(*partition), offset)

    def pause(self, partitions):
        self.client.pause(*[TopicPartition(*at) for at in partitions])

    def resume(self, partitions):
        self.client.resume(*[TopicPartition(*at) for at in partitions])

    def position(self, partition):
        with refusing():
            return self.client.position(TopicPartition(*partition))

    def is_at(self, partition, end):
        return self.position(partition) >= end

    def commit(self, offsets):
        places = {TopicPartition(*at): OffsetAndMetadata(offset, text, -1) for at, (offset, text) in offsets.items()}
        with refusing():
            # Waiting is not allowed in a rebalance listener; the commit is sent before the join that follows it.
            self.client.commit_async(places) if self.is_in_callback else self.client.commit(places)

    def committed(self, partition):
        with refusing():
            found = self.client.committed(TopicPartition(*partition), metadata=True)
        return found and (found.offset, found.metadata)

    def beginning(self, partition):
        at = TopicPartition(*partition)
        with refusing():
            return self.client.beginning_offsets([at])[at]

    def end(self, partition):
        at = TopicPartition(*partition)
        with refusing():
            return self.client.end_offsets([at])[at]

    def offset_at(self, partition, timestamp):
        at = TopicPartition(*partition)
        with refusing():
            found = self.client.offsets_for_times({at: timestamp})[at]
        return found and found.offset

    def close(self):
        self.client.close(autocommit=False, timeout_ms=5000)


class Admin(Closing):
    def __init__(self, endpoint):
        with refusing():
            self.client = kafka.KafkaAdminClient(**settings_of(endpoint, {}))

    def create_topic(self, name, partitions=1, configs=None, validate_only=False, replication=1):
        topic = {"num_partitions": partitions, "replication_factor": replication, "configs": configs or {}}
        with refusing():
            self.client.create_topics({name: topic}, validate_only=validate_only)

    def delete_topic(self, name):
        with refusing():
            self.client.delete_topics([name])

    def partitions(self, name):
        with refusing():
            found = self.client.describe_topics()
        return next((len(topic["partitions"]) for topic in found if topic["name"] == name), None)

    def grow(self, name, partitions, validate_only=False):
        with refusing():
            self.client.create_partitions({name: partitions}, validate_only=validate_only)

    def configs(self, kind, name):
        resource = ka.ConfigResource(kind, name)
        with refusing():
            found = self.client.describe_configs([resource], config_filter="all")[kind][name]
        source = lambda entry: SOURCES.get(str(entry.get("config_source", entry.get("source"))).lower(), "?")
        return {key: Config(entry["value"], source(entry)) for key, entry in found.items()}

    def alter_configs(self, kind, name, changes):
        configs = {key: (op.upper(), value) for op, key, value in changes}
        resource = ka.ConfigResource(kind, name, configs)
        with refusing():
            outcome = self.client.alter_configs([resource], raise_on_unknown=False, incremental=True)[kind][name]
        self.check_outcome(outcome)

    def replace_configs(self, kind, name, configs):
        resource = ka.ConfigResource(kind, name, configs)
        with refusing():
            outcome = self.client.alter_configs([resource], raise_on_unknown=False, incremental=False)[kind][name]
        self.check_outcome(outcome)

    def check_outcome(self, outcome):
        """Raises what the client gives as text: `[Error 40] InvalidConfigurationError: …`."""
        if outcome != "OK":
            code = int(outcome.split("]")[0].removeprefix("[Error "))
            raise refusal(code, outcome, outcome)

    def delete_records(self, partition, offset):
        at = TopicPartition(*partition)
        with refusing():
            return self.client.delete_records({at: offset})[at]["low_watermark"]

    def offset(self, partition, spec, isolation="read_uncommitted"):
        specs = {"earliest": OffsetSpec.EARLIEST, "latest": OffsetSpec.LATEST, "max": OffsetSpec.MAX_TIMESTAMP}
        at, level = TopicPartition(*partition), IsolationLevel[isolation.upper()]
        with refusing():
            found = self.client.list_partition_offsets({at: specs.get(spec, spec)}, isolation_level=level)[at]
        return found.offset, found.timestamp

    def groups(self, state=None):
        with refusing():
            found = self.client.list_groups(states_filter=[state] if state else None)
        return {group["group_id"]: group["group_state"] for group in found}

    def describe_group(self, group):
        with refusing():
            found = self.client.describe_groups([group])[group]
        if found["error"]:
            self.check_outcome(found["error"])
        return Group(found["group_state"], found["protocol_data"], [member_of(m) for m in found["members"]])

    def delete_group(self, group):
        with refusing():
            check(self.client.delete_groups([group])[group])

    def group_offsets(self, group):
        with refusing():
            found = self.client.list_group_offsets({group: None})[group]
        return {tuple(at): (place.offset, place.metadata) for at, place in found.items()}

    def alter_group_offsets(self, group, offsets):
        positions = {TopicPartition(*at): OffsetAndMetadata(offset, "", -1) for at, offset in offsets.items()}
        with refusing():
            for kind in self.client.alter_group_offsets(group, positions).values():
                check(kind)

    def delete_group_offsets(self, group, partitions):
        with refusing():
            found = self.client.delete_group_offsets(group, [TopicPartition(*at) for at in partitions])
        for kind in found.values():
            check(kind)

    def remove_static_member(self, group, instance_id):
        with refusing():
            found = self.client.remove_group_members(group, [ka.MemberToRemove(group_instance_id=instance_id)])
        for kind in found.values():
            check(kind)

    def cluster(self):
        with refusing():
            found = self.client.describe_cluster()
        nodes = {node["broker_id"]: (node["host"], node["port"]) for node in found["brokers"]}
        return found["cluster_id"], found["controller_id"], nodes

    def acls(self):
        everything = ka.ACLFilter(
            None, None, ka.ACLOperation.ANY, ka.ACLPermissionType.ANY, ka.ResourcePatternFilter(ka.ResourceType.ANY, None, ka.ACLResourcePatternType.ANY)
        )
        with refusing():
            return self.client.describe_acls(everything)

    def log_dirs(self, topic):
        """Bytes of each partition of a topic."""
        with refusing():
            found = self.client.describe_log_dirs([topic])
        folders = [folder for broker in found for folder in broker["log_dirs"]]
        topics = [entry for folder in folders for entry in folder["topics"] if entry["name"] == topic]
        return {part["partition_index"]: part["partition_size"] for entry in topics for part in entry["partitions"]}

    def producers(self, partition):
        """Active producers of a partition: (id, epoch, last sequence, start of the open transaction or -1)."""
        at = TopicPartition(*partition)
        with refusing():
            found = self.client.describe_producers([at])[at].active_producers
        return [(p.producer_id, p.producer_epoch, p.last_sequence, p.current_transaction_start_offset) for p in found]

    def transactions(self, states=None, producer_ids=None):
        """State by transactional id."""
        with refusing():
            found = self.client.list_transactions(state_filters=states, producer_id_filters=producer_ids)
        return {one.transactional_id: one.state.value for listed in found.values() for one in listed}

    def transaction(self, transactional_id):
        with refusing():
            return self.client.describe_transactions([transactional_id])[transactional_id]

    def abort_transaction(self, partition, identity, epoch):
        with refusing():
            self.client.abort_transaction(ka.AbortTransactionSpec(TopicPartition(*partition), identity, epoch))

    def topic_id(self, name):
        with refusing():
            return uuid.UUID(str(self.client.describe_topics([name])[0]["topic_id"]))

    def topic_of_id(self, identity):
        with refusing():
            (found,) = self.client.describe_topics([identity])
        return None if found["error_code"] == 100 else found["name"]

    def reassignments(self):
        with refusing():
            return self.client.list_partition_reassignments()

    def set_scram_password(self, endpoint):
        mechanism = ka.ScramMechanism[endpoint.mechanism.replace("-", "_")]
        wanted = ka.UserScramCredentialUpsertion(endpoint.user, mechanism, endpoint.password.encode())
        with refusing():
            self.client.alter_user_scram_credentials([wanted])

    def features(self):
        with refusing():
            return self.client.describe_features()

    def config_resources(self):
        """Names of topics and of brokers that have configurations."""
        with refusing():
            found = self.client.list_config_resources(["TOPIC", "BROKER"])
        return found.get("topic", []), found.get("broker", [])

    def close(self):
        self.client.close()


def member_of(member):
    assigned = member["member_assignment"]
    parts = assigned["assigned_partitions"] if assigned else []
    places = frozenset((entry["topic"], number) for entry in parts for number in entry["partitions"])
    return Member(member["client_id"], member["group_instance_id"], places)


producer, consumer, admin = Producer, Consumer, Admin
