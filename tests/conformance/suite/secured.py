"""Listeners with login and TLS, on Streamward and on Apache Kafka."""

import json
import os
import subprocess

from suite import install
from suite.servers import Streamward, apache_kafka, free_port

USER, PASSWORD = "alice", "correct horse battery"
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
# Names of the listeners, and of Kafka's protocol behind each.
LISTENERS = {"sasl": "SASL_PLAINTEXT", "tls": "SSL", "sasl_tls": "SASL_SSL", "mutual_tls": "SSL"}


def common(folder):
    """What drivers need beside addresses."""
    files = {"ca": "ca.pem", "stranger": "stranger.pem", "certificate": "client.pem", "key": "client.key"}
    at = {name: str(folder / file) for name, file in files.items()}
    return at | {"client_all": str(folder / "client-all.pem"), "user": USER, "password": PASSWORD}


def streamward(fleet, binary, folder):
    """One process for each kind of listener, since a process has one."""
    text = lambda name: (folder / name).read_text()
    tls = {"certificate": text("server.pem"), "key": text("server.key")}
    auth = {"mechanisms": MECHANISMS, "users": [{"name": USER, "password": PASSWORD}]}
    embedded = {
        "sasl": {"auth": auth},
        "tls": {"tls": tls},
        "sasl_tls": {"auth": auth, "tls": tls},
        "mutual_tls": {"tls": tls | {"client_ca": text("ca.pem")}},
    }
    for name, settings in embedded.items():
        config = folder / f"{name}.yaml"
        # JSON is YAML; a `$` of ours would be a variable, but there is none.
        config.write_text(json.dumps({"kafka": {"embedded": settings}}))
        fleet.at[name] = fleet.add(Streamward(binary, config=config)).broker
    fleet.at |= common(folder)


def kafka(fleet, folder):
    """All listeners on one broker; its user for SCRAM is added by a client."""
    number, control = os.getpid(), free_port()
    ports = {name: free_port() for name in ["plaintext", "controller", *LISTENERS]}
    ports["controller"] = control
    listeners = {name: f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items()}
    protocols = {"plaintext": "PLAINTEXT", "controller": "PLAINTEXT"} | LISTENERS
    outward = [text for name, text in listeners.items() if name != "controller"]
    module = "org.apache.kafka.common.security"
    settings = [
        f"controller.quorum.voters={number}@127.0.0.1:{control}",
        f"listeners={','.join(listeners.values())}",
        f"advertised.listeners={','.join(outward)}",
        "listener.security.protocol.map=" + ",".join(f"{name.upper()}:{kind}" for name, kind in protocols.items()),
        f"sasl.enabled.mechanisms={','.join(MECHANISMS)}",
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={folder / 'server-all.pem'}",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={folder / 'ca.pem'}",
        "listener.name.mutual_tls.ssl.client.auth=required",
    ]
    for name in ("sasl", "sasl_tls"):
        start = f"listener.name.{name}."
        user = f'{module}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        settings.append(f"{start}plain.sasl.jaas.config={user}")
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            settings.append(f"{start}{mechanism}.sasl.jaas.config={module}.scram.ScramLoginModule required;")
    server = fleet.add(apache_kafka(settings, ports["plaintext"]))
    fleet.at["plain"] = server.address
    fleet.at |= {name: f"127.0.0.1:{ports[name]}" for name in LISTENERS} | common(folder)
    add = [install.python(), install.HERE / "python/add_user.py", server.address, USER, PASSWORD]
    subprocess.run(add, check=True)
