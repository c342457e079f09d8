"""What every adapter offers, so that one text of a case drives each client library.

An adapter is a module with `producer(endpoint, settings)`, `consumer(endpoint, settings)`, `admin(endpoint)`,
`versions()`, `NAME` (as in `cases.toml`), `NO_RESET` (the value of `auto.offset.reset` for an error) and `SMALL_FETCH` (limits below a record) and `IMPATIENT` (a producer that gives up soon). Settings have Kafka's names. All three things are context managers that close their client. What the
broker or the client refuses is raised as `Refused`. A partition is a pair of topic and number.

Producer   send(topic, value, key, partition, headers, timestamp) -> Delivery, flush()
           begin(), commit(), abort(), send_offsets({partition: offset}, consumer); init is done when it is made
Consumer   subscribe(topics, on_revoke), subscribe_pattern(text), assign([(topic, number, offset or None)]),
           poll(seconds) -> [Record], assignment(), seek(partition, offset), pause(partitions), resume(partitions),
           position(partition), is_at(partition, end): whether all before `end` was read, commit({partition: (offset, metadata)}), committed(partition) -> (offset, metadata),
           beginning(partition), end(partition), offset_at(partition, timestamp)
Admin      see the adapters; each method is one request of Kafka's Admin
"""

from dataclasses import dataclass, field

NAMES = {
    1: "OFFSET_OUT_OF_RANGE",
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    10: "MESSAGE_TOO_LARGE",
    12: "OFFSET_METADATA_TOO_LARGE",
    17: "INVALID_TOPIC_EXCEPTION",
    22: "ILLEGAL_GENERATION",
    25: "UNKNOWN_MEMBER_ID",
    26: "INVALID_SESSION_TIMEOUT",
    32: "INVALID_TIMESTAMP",
    36: "TOPIC_ALREADY_EXISTS",
    37: "INVALID_PARTITIONS",
    38: "INVALID_REPLICATION_FACTOR",
    39: "INVALID_REPLICA_ASSIGNMENT",
    40: "INVALID_CONFIG",
    42: "INVALID_REQUEST",
    47: "INVALID_PRODUCER_EPOCH",
    48: "INVALID_TXN_STATE",
    49: "INVALID_PRODUCER_ID_MAPPING",
    50: "INVALID_TRANSACTION_TIMEOUT",
    54: "SECURITY_DISABLED",
    58: "SASL_AUTHENTICATION_FAILED",
    68: "NON_EMPTY_GROUP",
    69: "GROUP_ID_NOT_FOUND",
    82: "FENCED_INSTANCE_ID",
    86: "GROUP_SUBSCRIBED_TO_TOPIC",
    87: "INVALID_RECORD",
    90: "PRODUCER_FENCED",
    100: "UNKNOWN_TOPIC_ID",
    105: "TRANSACTIONAL_ID_NOT_FOUND",
}


class Refused(Exception):
    """An error of the Kafka protocol, or one that the client itself gives; `name` as Kafka calls it."""

    def __init__(self, name, text=""):
        super().__init__(f"{name} {text}")
        self.name = name


def refusal(code, fallback, text=""):
    """The `Refused` of a protocol error code; `fallback` names errors that have none of `NAMES`."""
    return Refused(NAMES.get(code, fallback), text)


def refused(action):
    """The name of the error that `action` ends with, or None."""
    try:
        action()
    except Refused as error:
        return error.name
    return None


@dataclass(frozen=True)
class Endpoint:
    """A listener and how to log in there."""

    address: str
    ca: str | None = None
    mechanism: str | None = None
    user: str | None = None
    password: str | None = None
    certificate: str | None = None
    key: str | None = None

    @property
    def protocol(self):
        """Kafka's `security.protocol`."""
        names = {(False, False): "PLAINTEXT", (True, False): "SSL", (False, True): "SASL_PLAINTEXT"}
        return names.get((self.ca is not None, self.mechanism is not None), "SASL_SSL")


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int
    # "create" or "append"
    timestamp_type: str
    key: bytes | None
    value: bytes | None
    headers: list = field(hash=False)
    leader_epoch: int | None = None


def record_of(record):
    """The record of a client that is written in Python: aiokafka and kafka-python name its parts alike."""
    kind = "append" if record.timestamp_type == 1 else "create"
    place = (record.topic, record.partition, record.offset)
    return Record(*place, record.timestamp, kind, record.key, record.value, list(record.headers))


@dataclass(frozen=True)
class Config:
    value: str | None
    # "topic", "broker" (set in the broker's configuration) or "default"
    source: str


@dataclass(frozen=True)
class Member:
    client_id: str
    instance_id: str | None
    assignment: frozenset


@dataclass(frozen=True)
class Group:
    state: str
    assignor: str
    members: list = field(hash=False)


class Closing:
    """A context manager over `close`."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
