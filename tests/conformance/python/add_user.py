"""Gives a user a password for both kinds of SCRAM: `add_user.py HOST:PORT USER PASSWORD`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from adapters import confluent
from client import Endpoint

address, user, password = sys.argv[1:]
with confluent.Admin(Endpoint(address)) as admin:
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        admin.set_scram_password(Endpoint(address, mechanism=mechanism, user=user, password=password))
