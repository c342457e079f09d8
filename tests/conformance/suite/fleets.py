"""The servers behind each group of columns, and their addresses as drivers take them."""

import shutil
import tempfile
from pathlib import Path

from suite import certificates, secured, servers


class Fleet:
    """Servers that are stopped together."""

    def __init__(self, name):
        self.name, self.at, self.running = name, {}, []

    def add(self, server):
        self.running.append(server)
        return server

    def stop(self):
        for server in reversed(self.running):
            server.stop()


class Folder:
    """A temporary folder, removed with the servers that use it."""

    name = None

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="streamward-conformance."))

    def stop(self):
        shutil.rmtree(self.path, ignore_errors=True)


def start(args, areas, fleets):
    """Starts what the arguments ask for and what the areas of cases need; all that `fleets` gets is to be stopped."""
    folder = None
    if "security" in areas:
        fleets.append(Folder())
        folder = certificates.make(fleets[0].path / "tls")
    if not args.only_oracle:
        ours = Fleet("Streamward")
        fleets.append(ours)
        binary = args.binary.resolve()
        server = ours.add(servers.Streamward(binary))
        ours.at = {"plain": server.broker, "registry": server.registry}
        if folder:
            secured.streamward(ours, binary, folder)
    if args.oracle or args.only_oracle:
        oracle = Fleet("Apache Kafka")
        fleets.append(oracle)
        if folder:
            secured.kafka(oracle, folder)
        else:
            oracle.at["plain"] = oracle.add(servers.apache_kafka()).address
        if "registry" in areas:
            # Apicurio has Confluent's interface below a path.
            oracle.at["registry"] = f"http://{oracle.add(servers.apicurio()).address}/apis/ccompat/v7"
