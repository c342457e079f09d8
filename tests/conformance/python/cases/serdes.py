"""Confluent's serialisers and deserialisers against the registry, with their records through the broker."""

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from cases import read_all
from cases.registry import get, record
from harness import case, equal, holds


def client(env):
    return SchemaRegistryClient({"url": env.at["registry"]})


def through_broker(env, topic, serialise, deserialise, values):
    """Values as they come back through a topic, and the bytes on the way."""
    context = SerializationContext(topic, MessageField.VALUE)
    with env.producer() as producer:
        for value in values:
            producer.send(topic, serialise(value, context), partition=0).get()
    bodies = [found.value for found in read_all(env, topic)]
    return [deserialise(body, context) for body in bodies], bodies


def framed(body, identity):
    """Confluent's framing: a zero byte, then the schema's id in four bytes."""
    equal("framing", (body[0], int.from_bytes(body[1:5], "big")), (0, identity))


@case("registry/avro-serialiser")
def avro(env):
    topic, registry = env.topic(), client(env)
    serialise = AvroSerializer(registry, record("a", ("b", 7)))
    sent = [{"a": 1, "b": 2}, {"a": -5, "b": 0}]
    found, bodies = through_broker(env, topic, serialise, AvroDeserializer(registry), sent)
    equal("values", found, sent)
    framed(bodies[0], registry.get_latest_version(f"{topic}-value").schema_id)


@case("registry/avro-evolution")
def avro_evolution(env):
    topic, registry = env.topic(), client(env)
    through_broker(env, topic, AvroSerializer(registry, record("a")), AvroDeserializer(registry), [{"a": 1}])
    newer = record("a", ("b", 7))
    found, _ = through_broker(
        env, topic, AvroSerializer(registry, newer), AvroDeserializer(client(env), newer), [{"a": 2, "b": 3}]
    )
    equal("both read by the newer schema", found, [{"a": 1, "b": 7}, {"a": 2, "b": 3}])
    equal("versions", registry.get_versions(f"{topic}-value"), [1, 2])


@case("registry/json-serialiser")
def json_schema(env):
    topic, registry = env.topic(), client(env)
    schema = '{"title": "Reading", "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    serialise = JSONSerializer(schema, registry)
    deserialise = JSONDeserializer(schema, schema_registry_client=registry)
    found, bodies = through_broker(env, topic, serialise, deserialise, [{"a": 1}, {"a": 2}])
    equal("values", found, [{"a": 1}, {"a": 2}])
    latest = get(env, "GET", f"/subjects/{topic}-value/versions/latest")
    equal("type", latest["schemaType"], "JSON")
    framed(bodies[0], latest["id"])


def reading():
    """A message of a text and a number, as protoc would make it."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", package="conformance", syntax="proto3")
    message = file.message_type.add(name="Reading")
    message.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    message.field.add(name="value", number=2, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("conformance.Reading"))


@case("registry/protobuf-serialiser")
def protobuf(env):
    topic, registry = env.topic(), client(env)
    kind = reading()
    serialise = ProtobufSerializer(kind, registry, {"use.deprecated.format": False})
    deserialise = ProtobufDeserializer(kind, {"use.deprecated.format": False}, registry)
    sent = [kind(key="a", value=2), kind(key="b")]
    found, bodies = through_broker(env, topic, serialise, deserialise, sent)
    equal("values", [(m.key, m.value) for m in found], [("a", 2), ("b", 0)])
    latest = get(env, "GET", f"/subjects/{topic}-value/versions/latest")
    equal("type", latest["schemaType"], "PROTOBUF")
    framed(bodies[0], latest["id"])


@case("registry/client")
def registry_client(env):
    registry, subject = client(env), env.name()
    identity = registry.register_schema(subject, Schema(record("a"), "AVRO"))
    equal("by id", registry.get_schema(identity).schema_type, "AVRO")
    found = registry.lookup_schema(subject, Schema(record("a"), "AVRO"))
    equal("looked up", (found.schema_id, found.version), (identity, 1))
    holds("listed", subject in registry.get_subjects())
    equal("level", registry.set_compatibility(subject, "FULL"), {"compatibility": "FULL"})
    equal("level again", registry.get_compatibility(subject), "FULL")
    holds("compatible", registry.test_compatibility(subject, Schema(record("a", ("b", 1)), "AVRO")))
    holds("incompatible", not registry.test_compatibility(subject, Schema(record("b"), "AVRO")))
    equal("deleted", registry.delete_subject(subject), [1])
    equal("deleted for good", registry.delete_subject(subject, permanent=True), [1])
