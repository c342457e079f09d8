"""kcat: a command line over librdkafka. Each case runs the program and reads what it prints."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness
from harness import PATIENCE, Failed, case, equal, eventually, holds

KCAT = os.environ.get("KCAT", "kcat")
HOUR_MS = 3_600_000


def versions():
    text = subprocess.run([KCAT, "-V"], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = re.search(r"Version (\S+) .*librdkafka (\S+) ", text)
    return {"kcat": found[1], "librdkafka": found[2]}


def kcat(env, *words, text="", settings=()):
    """What kcat prints; fails when it does not end well."""
    done = attempt(env, *words, text=text, settings=settings)
    if done.returncode != 0:
        raise Failed(f"kcat {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def attempt(env, *words, text="", settings=(), listener="plain"):
    options = [word for setting in settings for word in ("-X", setting)]
    command = [KCAT, "-b", env.at[listener], "-m", "10", *options, *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE * 2, check=False)


def produce(env, topic, lines, *words, settings=()):
    kcat(env, "-P", "-t", topic, *words, text="".join(f"{line}\n" for line in lines), settings=settings)


def consume(env, topic, *words, settings=()):
    """The records up to the end, one dictionary each."""
    text = kcat(env, "-C", "-t", topic, "-e", "-q", "-J", *words, settings=settings)
    return [json.loads(line) for line in text.splitlines()]


def payloads(records):
    return [record["payload"] for record in records]


def listing(env, topic):
    return kcat(env, "-L", "-t", topic)


@case("records/roundtrip")
def roundtrip(env):
    topic = env.name()
    produce(env, topic, ["key:value", "other:"], "-K:", "-H", "a=1", "-H", "b=2")
    produce(env, topic, ["gone:"], "-K:", "-Z")
    found = consume(env, topic)
    equal("records", [(r["key"], r["payload"]) for r in found], [("key", "value"), ("other", ""), ("gone", None)])
    equal("headers", found[0]["headers"], ["a", "1", "b", "2"])
    holds("time of writing", abs(found[0]["ts"] - time.time() * 1000) < HOUR_MS, found[0]["ts"])


def compressed(env, codec):
    topic = env.name()
    lines = [f"{number}-{'x' * 100}" for number in range(500)]
    produce(env, topic, lines, "-z", codec, settings=["linger.ms=50"])
    equal("records", payloads(consume(env, topic)), lines)


for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    case(f"records/codec-{codec}")(lambda env, codec=codec: compressed(env, codec))


@case("records/acks")
def acks(env):
    topic = env.name()
    for level in ("1", "all", "0"):
        produce(env, topic, [level], settings=[f"acks={level}"])
    eventually("all three", lambda: sorted(payloads(consume(env, topic))) == ["0", "1", "all"])


@case("records/large")
def large(env):
    # Topics made by use have the default of max.message.bytes, 1 MiB and 12 bytes.
    topic = env.name()
    produce(env, topic, ["a" * 1_000_000], settings=["message.max.bytes=4000000"])
    refused = attempt(env, "-P", "-t", topic, text="b" * 1_100_000, settings=["message.max.bytes=4000000"])
    holds("a larger one is refused", "Message size too large" in refused.stderr, refused.stderr)
    produce(env, topic, ["c" * 1_000_000], settings=["message.max.bytes=4000000"])
    equal("records", [value[:1] for value in payloads(consume(env, topic))], ["a", "c"])


@case("records/out-of-range")
def out_of_range(env):
    topic = env.name()
    produce(env, topic, ["a", "b", "c"])
    done = attempt(env, "-C", "-t", topic, "-e", "-o", "50", settings=["auto.offset.reset=error"])
    holds("an error", "Offset out of range" in done.stderr and not done.stdout, done.stderr)
    found = consume(env, topic, "-o", "50", settings=["auto.offset.reset=earliest"])
    equal("from the beginning", payloads(found), ["a", "b", "c"])


@case("records/idempotent")
def idempotent(env):
    topic = env.name()
    lines = [str(number) for number in range(1000)]
    produce(env, topic, lines, settings=["enable.idempotence=true"])
    found = consume(env, topic)
    equal("records", payloads(found), lines)
    equal("offsets", [record["offset"] for record in found], list(range(1000)))


@case("records/seek")
def seek(env):
    topic = env.name()
    produce(env, topic, [str(number) for number in range(100)])
    equal("from 90", payloads(consume(env, topic, "-o", "90")), [str(n) for n in range(90, 100)])
    equal("the last 3", payloads(consume(env, topic, "-o", "-3")), ["97", "98", "99"])
    equal("two from the beginning", payloads(consume(env, topic, "-o", "beginning", "-c", "2")), ["0", "1"])


@case("records/offsets-by-time")
def offsets_by_time(env):
    topic = env.name()
    produce(env, topic, ["a"])
    middle = int(time.time() * 1000) + 20
    eventually("a later moment", lambda: time.time() * 1000 > middle + 20)
    produce(env, topic, ["b"])
    equal("from a time on", payloads(consume(env, topic, "-o", f"s@{middle}")), ["b"])
    equal("offset query", kcat(env, "-Q", "-t", f"{topic}:0:{middle}").split()[-1], "1")


@case("records/auto-create")
def auto_create(env):
    topic = env.name()
    produce(env, topic, ["first"])
    equal("records", payloads(consume(env, topic)), ["first"])
    holds("one partition", f'topic "{topic}" with 1 partitions' in listing(env, topic), listing(env, topic))


@case("records/many-small")
def many_small(env):
    topic = env.name()
    lines = [str(number) for number in range(300)]
    produce(env, topic, lines, settings=["batch.num.messages=1", "max.in.flight=1", "linger.ms=0"])
    equal("records", payloads(consume(env, topic)), lines)


@case("transactions/commit")
def transaction(env):
    # kcat commits one transaction of all that it reads when it is given an id.
    topic = env.name()
    produce(env, topic, ["plain"])
    settings = [f"transactional.id={env.name()}"]
    produce(env, topic, ["a", "b"], settings=settings)
    found = consume(env, topic, settings=["isolation.level=read_committed"])
    equal("committed", payloads(found), ["plain", "a", "b"])


@case("groups/first-record")
def first_record(env):
    topic = env.name()
    produce(env, topic, ["x"])
    equal("records", group(env, env.name(), topic, 1), ["x"])


def group(env, name, topic, count):
    """Values that a member of a group reads."""
    settings = ["auto.offset.reset=earliest"]
    text = kcat(env, "-G", name, "-q", "-u", "-c", str(count), topic, settings=settings)
    return text.splitlines()


@case("groups/commit")
def commit(env):
    topic, name = env.name(), env.name()
    produce(env, topic, [str(number) for number in range(10)])
    equal("the first four", group(env, name, topic, 4), ["0", "1", "2", "3"])
    equal("the rest", group(env, name, topic, 6), ["4", "5", "6", "7", "8", "9"])


@case("cluster/describe")
def describe(env):
    found = json.loads(kcat(env, "-L", "-J"))
    (broker,) = found["brokers"]
    equal("address", broker["name"], env.at["plain"])
    equal("the controller", found["controllerid"], broker["id"])


def secured(env, listener, *settings):
    """Writes a record and reads it over a listener with these settings."""
    topic = env.name()
    options = [word for setting in settings for word in ("-X", setting)]
    sent = attempt(env, "-P", "-t", topic, *options, text="secret\n", listener=listener)
    equal(f"exit of the producer: {sent.stderr}", sent.returncode, 0)
    found = attempt(env, "-C", "-t", topic, "-e", "-q", *options, listener=listener)
    equal("value", found.stdout, "secret\n")


def kept_out(env, listener, *settings):
    options = [word for setting in (*settings, "message.timeout.ms=3000") for word in ("-X", setting)]
    done = attempt(env, "-P", "-t", "any", *options, text="x\n", listener=listener)
    holds("kcat fails", done.returncode != 0, done.stderr)


def logged_in(env, mechanism, password=None, user=None):
    login = ["security.protocol=SASL_PLAINTEXT", f"sasl.mechanism={mechanism}"]
    return [*login, f"sasl.username={user or env.at['user']}", f"sasl.password={password or env.at['password']}"]


@case("security/sasl-plain")
def sasl_plain(env):
    secured(env, "sasl", *logged_in(env, "PLAIN"))


@case("security/wrong-password")
def wrong_password(env):
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        kept_out(env, "sasl", *logged_in(env, mechanism, "wrong"))


@case("security/unknown-user")
def unknown_user(env):
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        kept_out(env, "sasl", *logged_in(env, mechanism, user="nobody"))


@case("security/tls-sasl")
def tls_sasl(env):
    over_tls = ["security.protocol=SASL_SSL", f"ssl.ca.location={env.at['ca']}"]
    secured(env, "sasl_tls", *logged_in(env, "PLAIN"), *over_tls)
    kept_out(env, "sasl_tls", *logged_in(env, "PLAIN", "wrong"), *over_tls)


@case("security/no-login")
def no_login(env):
    kept_out(env, "sasl")


@case("security/tls")
def tls(env):
    secured(env, "tls", "security.protocol=SSL", f"ssl.ca.location={env.at['ca']}")


@case("security/tls-untrusted")
def tls_untrusted(env):
    kept_out(env, "tls", "security.protocol=SSL", f"ssl.ca.location={env.at['stranger']}")


@case("security/client-certificate")
def client_certificate(env):
    trusting = ["security.protocol=SSL", f"ssl.ca.location={env.at['ca']}"]
    own = [f"ssl.certificate.location={env.at['certificate']}", f"ssl.key.location={env.at['key']}"]
    secured(env, "mutual_tls", *trusting, *own)
    kept_out(env, "mutual_tls", *trusting)


if __name__ == "__main__":
    harness.main(versions)
