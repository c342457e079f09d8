"""Puts the clients into the cache: a Python environment, kcat, jars. What is there already is left alone."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("STREAMWARD_SERVERS", Path.home() / ".cache/streamward-servers"))
KAFKA_VERSION = "4.4.0"
JARS = [
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
]
KCAT_PACKAGES = ["kcat", "librdkafka1", "libyajl2"]


def run(*command, **more):
    """Runs a program quietly; what it printed is shown when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


@contextlib.contextmanager
def locked(name):
    """Holds off other runs that would install the same."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached(name, definition, fill):
    """The folder `name` in the cache, filled by `fill(folder)` once for each definition."""
    digest = hashlib.sha256(definition.encode()).hexdigest()[:12]
    folder = CACHE / "lib" / f"conformance-{name}-{digest}"
    with locked(f"conformance-{name}"):
        if not folder.exists():
            print(f"installing {name}", flush=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix="conformance.", dir=folder.parent))
            try:
                fill(fresh)
                fresh.rename(folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return folder


def python():
    """An interpreter that has everything in `requirements.txt`."""
    requirements = HERE / "requirements.txt"

    def fill(folder):
        run(sys.executable, "-m", "venv", folder)
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, "--only-binary", ":all:", "--requirement", requirements)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cached("python", version + requirements.read_text(), fill) / "bin/python"


def apt_refresh():
    """Fetches the lists of packages unless they are at most two days old."""
    fresh = "find /var/lib/apt/lists -name '*_Packages*' -mtime -2 2>/dev/null | grep -q ."
    if subprocess.run(["sh", "-c", fresh], check=False).returncode != 0:
        run(*([] if os.geteuid() == 0 else ["sudo", "-n"]), "apt-get", "update", "-qq")


def kcat():
    """kcat and its libraries, unpacked from Debian's packages; nothing is installed into the system."""

    def fill(folder):
        apt_refresh()
        with tempfile.TemporaryDirectory() as packages:
            run("apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", *KCAT_PACKAGES, cwd=packages)
            for package in Path(packages).glob("*.deb"):
                run("dpkg-deb", "-x", package, folder)

    return cached("kcat", " ".join(KCAT_PACKAGES), fill)


def jars():
    """The folder of the Java clients' jars."""
    dependencies = ""
    for coordinates in JARS:
        group, artifact, version = coordinates.split(":")
        fields = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        dependencies += f"<dependency>{fields}</dependency>"
    head = "<modelVersion>4.0.0</modelVersion><groupId>streamward</groupId><artifactId>conformance</artifactId>"
    pom = f"<project>{head}<version>1</version><dependencies>{dependencies}</dependencies></project>"

    def fill(folder):
        (folder / "pom.xml").write_text(pom)
        run("mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}", cwd=folder)

    return cached("jars", pom, fill)


def java_classes():
    """The Java drivers, compiled; and what they need to run."""
    sources = sorted((HERE / "java").glob("*.java"))
    libraries = f"{jars()}/*"

    def fill(folder):
        run("javac", "-Xlint:all,-serial", "-Werror", "-d", folder, "-cp", libraries, *sources)

    return f"{cached('java', ''.join(s.read_text() for s in sources), fill)}:{libraries}"
