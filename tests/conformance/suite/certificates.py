"""Certificates for one run: an authority, a server's and a client's from it, and an authority that nobody knows."""

from pathlib import Path

from suite.install import run

NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def authority(folder, name):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    run(*new, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate)


def signed(folder, name, extension):
    """A key and a certificate that the authority `ca` signed, and both in one file."""
    key, request, certificate = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.pem"
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"]
    run(*new, "-keyout", key, "-out", request)
    extensions = folder / f"{name}.ext"
    extensions.write_text(extension)
    sign = ["openssl", "x509", "-req", "-days", "2", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"]
    run(*sign, "-CAcreateserial", "-extfile", extensions, "-in", request, "-out", certificate)
    (folder / f"{name}-all.pem").write_text(key.read_text() + certificate.read_text())


def make(folder: Path):
    folder.mkdir()
    authority(folder, "ca")
    authority(folder, "stranger")
    signed(folder, "server", NAMES)
    signed(folder, "client", "extendedKeyUsage=clientAuth")
    return folder
