"""Compatibility levels and modes of the schema registry, as Confluent documents them.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html
"""

import json

from cases.registry import ask, get, record, refused, register, unique
from harness import case, equal, holds

# What may follow `a` and then `a, b with a default`: each level takes it or does not.
FIRST, SECOND = record("a"), record("a", ("b", 1))
ADDED, ADDED_WITH_DEFAULT = record("a", ("b", 1), "c"), record("a", ("b", 1), ("c", 1))
REMOVED, REMOVED_DEFAULTED = record(("b", 1)), record("a")
# Readable by what reads the newest, not by what reads the first, or the other way about.
NO_DEFAULT = record("a", "b")


def verdicts(env, level, schemas):
    """Whether a subject with two versions takes each schema; checked by the test, and by registering the last."""
    subject = env.name()
    register(env, subject, FIRST)
    register(env, subject, SECOND)
    get(env, "PUT", f"/config/{subject}", {"compatibility": level})
    path = f"/compatibility/subjects/{subject}/versions"
    found = [get(env, "POST", path, {"schema": schema})["is_compatible"] for schema in schemas]
    for schema, is_taken in zip(schemas, found):
        status, _ = ask(env, "POST", f"/subjects/{subject}/versions", {"schema": schema})
        equal(f"status of registering {schema}", status, 200 if is_taken else 409)
        if is_taken and schema not in (FIRST, SECOND):
            # Away with it again, so that every schema meets the same two versions.
            get(env, "DELETE", f"/subjects/{subject}/versions/latest")
    return found


@case("registry/backward")
def backward(env):
    found = verdicts(env, "BACKWARD", [ADDED, ADDED_WITH_DEFAULT, REMOVED, NO_DEFAULT])
    equal("taken", found, [False, True, True, True])


@case("registry/backward-transitive")
def backward_transitive(env):
    found = verdicts(env, "BACKWARD_TRANSITIVE", [ADDED, ADDED_WITH_DEFAULT, REMOVED, NO_DEFAULT])
    equal("taken", found, [False, True, True, False])


@case("registry/forward")
def forward(env):
    found = verdicts(env, "FORWARD", [ADDED, REMOVED, record(("a", 1))])
    equal("taken", found, [True, False, True])


@case("registry/forward-transitive")
def forward_transitive(env):
    # Without `a`, which the second version has no need of but the first has.
    subject = env.name()
    register(env, subject, record("a"))
    register(env, subject, record(("a", 1)))
    for level, wanted in (("FORWARD", True), ("FORWARD_TRANSITIVE", False)):
        get(env, "PUT", f"/config/{subject}", {"compatibility": level})
        path = f"/compatibility/subjects/{subject}/versions"
        found = get(env, "POST", path, {"schema": record("z")})
        equal(f"is_compatible with {level}", found["is_compatible"], wanted)


@case("registry/full")
def full(env):
    found = verdicts(env, "FULL", [ADDED, ADDED_WITH_DEFAULT, REMOVED, NO_DEFAULT])
    equal("taken", found, [False, True, False, True])


@case("registry/full-transitive")
def full_transitive(env):
    found = verdicts(env, "FULL_TRANSITIVE", [ADDED, ADDED_WITH_DEFAULT, REMOVED, NO_DEFAULT])
    equal("taken", found, [False, True, False, False])


@case("registry/none")
def none(env):
    subject = env.name()
    register(env, subject, record("a"))
    get(env, "PUT", f"/config/{subject}", {"compatibility": "NONE"})
    register(env, subject, '{"type": "string"}')
    equal("versions", get(env, "GET", f"/subjects/{subject}/versions"), [1, 2])


@case("registry/compatibility-test")
def compatibility_test(env):
    subject = env.name()
    register(env, subject, record("a"))
    get(env, "PUT", f"/config/{subject}", {"compatibility": "BACKWARD"})
    path = f"/compatibility/subjects/{subject}/versions/latest"
    equal("a good one", get(env, "POST", path, {"schema": record("a", ("b", 1))})["is_compatible"], True)
    bad = get(env, "POST", f"{path}?verbose=true", {"schema": record("a", "b")})
    equal("a bad one", bad["is_compatible"], False)
    holds("a verbose answer says why", bad.get("messages"), bad)
    equal("by number", get(env, "POST", path.replace("latest", "1"), {"schema": record("a")})["is_compatible"], True)
    refused(env, (404, 40402), "POST", path.replace("latest", "9"), {"schema": record("a")})
    refused(env, (422, 42201), "POST", path, {"schema": '{"type": "nonsense"}'})


@case("registry/subject-level")
def subject_level(env):
    subject = env.name()
    register(env, subject, record("a"))
    refused(env, (404, 40408), "GET", f"/config/{subject}")
    whole = get(env, "GET", "/config")["compatibilityLevel"]
    equal("by default the global one", get(env, "GET", f"/config/{subject}?defaultToGlobal=true")["compatibilityLevel"], whole)
    equal("set", get(env, "PUT", f"/config/{subject}", {"compatibility": "FULL"})["compatibility"], "FULL")
    equal("its own", get(env, "GET", f"/config/{subject}")["compatibilityLevel"], "FULL")
    get(env, "DELETE", f"/config/{subject}")
    refused(env, (404, 40408), "GET", f"/config/{subject}")


@case("registry/global-level", alone=True)
def global_level(env):
    subject = env.name()
    before = get(env, "GET", "/config")["compatibilityLevel"]
    equal("the default", before, "BACKWARD")
    register(env, subject, record("a"))
    refused(env, (409, 409), "POST", f"/subjects/{subject}/versions", {"schema": record("a", "b")})
    get(env, "PUT", "/config", {"compatibility": "FULL"})
    equal("set", get(env, "GET", "/config")["compatibilityLevel"], "FULL")
    refused(env, (409, 409), "POST", f"/subjects/{subject}/versions", {"schema": record("z")})
    get(env, "PUT", "/config", {"compatibility": "BACKWARD"})
    equal("set back", get(env, "GET", "/config")["compatibilityLevel"], "BACKWARD")


@case("registry/modes")
def modes(env):
    subject = env.name()
    equal("the default", get(env, "GET", "/mode")["mode"], "READWRITE")
    register(env, subject, record("a"))
    refused(env, (404, 40409), "GET", f"/mode/{subject}")
    equal("by default the global one", get(env, "GET", f"/mode/{subject}?defaultToGlobal=true")["mode"], "READWRITE")
    equal("set", get(env, "PUT", f"/mode/{subject}", {"mode": "READONLY"})["mode"], "READONLY")
    refused(env, (422, 42205), "POST", f"/subjects/{subject}/versions", {"schema": record("a", ("b", 1))})
    equal("its own", get(env, "GET", f"/mode/{subject}")["mode"], "READONLY")
    get(env, "DELETE", f"/mode/{subject}")
    register(env, subject, record("a", ("b", 1)))


@case("registry/import")
def importing(env):
    subject = env.name()
    get(env, "PUT", f"/mode/{subject}", {"mode": "IMPORT"})
    body = {"schema": record("a", name=unique(env)), "id": 4_000_000, "version": 5}
    body["id"] += int(subject.split("-")[-1], 16) % 1_000_000
    equal("the given id", get(env, "POST", f"/subjects/{subject}/versions", body)["id"], body["id"])
    get(env, "PUT", f"/mode/{subject}", {"mode": "READWRITE"})
    equal("the given version", get(env, "GET", f"/subjects/{subject}/versions"), [5])
    equal("by id", get(env, "GET", f"/schemas/ids/{body['id']}/schema"), json.loads(body["schema"]))
