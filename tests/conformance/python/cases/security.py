"""Login and encryption: who may come in, who may not, and over what."""

from cases import read
from client import Endpoint, Refused
from harness import Failed, case, equal, eventually


def login(env, listener, mechanism=None, **more):
    """The endpoint of a listener, with the user's login when there is a mechanism."""
    user = {"user": env.at["user"], "password": env.at["password"]} if mechanism else {}
    return Endpoint(env.at[listener], **({"mechanism": mechanism} | user | more))


def roundtrip(env, endpoint):
    """Creates a topic, writes a record and reads it."""
    topic = env.name()
    with env.library.admin(endpoint) as admin:
        admin.create_topic(topic, 1)
        eventually("the topic", lambda: admin.partitions(topic) == 1)
    with env.library.producer(endpoint, {}) as producer:
        equal("offset", producer.send(topic, b"secret", partition=0).get(), 0)
    with env.library.consumer(endpoint, {"auto.offset.reset": "earliest", "enable.auto.commit": False}) as consumer:
        consumer.assign([(topic, 0, 0)])
        equal("value", read(consumer, 1)[0].value, b"secret")


def kept_out(env, endpoint):
    """Checks that a client gets nothing done there, whatever way it has to say so."""
    try:
        with env.library.producer(endpoint, env.library.IMPATIENT) as producer:
            producer.send("any", b"x").get(8)
    except (Refused, TimeoutError):
        return
    raise Failed("a client that should be kept out wrote a record")


@case("security/sasl-plain")
def sasl_plain(env):
    roundtrip(env, login(env, "sasl", "PLAIN"))


@case("security/sasl-scram-256")
def sasl_scram_256(env):
    roundtrip(env, login(env, "sasl", "SCRAM-SHA-256"))


@case("security/sasl-scram-512")
def sasl_scram_512(env):
    roundtrip(env, login(env, "sasl", "SCRAM-SHA-512"))


@case("security/wrong-password")
def wrong_password(env):
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        kept_out(env, login(env, "sasl", mechanism, password="wrong"))


@case("security/unknown-user")
def unknown_user(env):
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        kept_out(env, login(env, "sasl", mechanism, user="nobody"))


@case("security/no-login")
def no_login(env):
    kept_out(env, login(env, "sasl"))


@case("security/added-user")
def added_user(env):
    own = {"user": env.name(), "password": "its own"}
    with env.library.admin(login(env, "sasl", "PLAIN")) as admin:
        admin.set_scram_password(login(env, "sasl", "SCRAM-SHA-512", **own))
    # The broker that answered may still be telling itself.
    eventually("the login", lambda: logged_in(env, login(env, "sasl", "SCRAM-SHA-512", **own)))
    kept_out(env, login(env, "sasl", "SCRAM-SHA-512", **(own | {"password": "another"})))


def logged_in(env, endpoint):
    try:
        with env.library.admin(endpoint) as admin:
            return admin.cluster() is not None
    except Refused:
        return False


@case("security/tls")
def tls(env):
    roundtrip(env, login(env, "tls", ca=env.at["ca"]))


@case("security/tls-untrusted")
def tls_untrusted(env):
    kept_out(env, login(env, "tls", ca=env.at["stranger"]))


@case("security/tls-sasl")
def tls_sasl(env):
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        roundtrip(env, login(env, "sasl_tls", mechanism, ca=env.at["ca"]))
    kept_out(env, login(env, "sasl_tls", "SCRAM-SHA-512", ca=env.at["ca"], password="wrong"))


@case("security/client-certificate")
def client_certificate(env):
    certificate = {"certificate": env.at["certificate"], "key": env.at["key"]}
    roundtrip(env, login(env, "mutual_tls", ca=env.at["ca"], **certificate))
    kept_out(env, login(env, "mutual_tls", ca=env.at["ca"]))
