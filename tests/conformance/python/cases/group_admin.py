"""What an administrator sees of groups, and may change."""

from cases import fill, read
from cases.groups import Worker
from client import refused
from harness import case, equal, eventually, holds


def settle(env, group, topic, offset=2):
    """Leaves an empty group behind that has committed an offset of partition 0."""
    with env.consumer(group) as consumer:
        consumer.assign([(topic, 0, 0)])
        consumer.commit({(topic, 0): (offset, "note")})


@case("group-admin/list")
def listed(env):
    topic, empty, live = env.topic(), env.name(), env.name()
    settle(env, empty, topic)
    with Worker(env, live, topic) as worker, env.admin() as admin:
        eventually("assigned", lambda: worker.numbers == [0])
        found = admin.groups()
        holds("both groups", empty in found and live in found, found.keys())


@case("group-admin/list-by-state")
def list_by_state(env):
    topic, empty, live = env.topic(), env.name(), env.name()
    settle(env, empty, topic)
    with Worker(env, live, topic) as worker, env.admin() as admin:
        eventually("assigned", lambda: worker.numbers == [0])
        found = admin.groups()
        equal("states", (found[empty], found[live]), ("Empty", "Stable"))
        stable, idle = admin.groups("Stable"), admin.groups("Empty")
        holds("the live one is stable", live in stable and empty not in stable)
        holds("the other is empty", empty in idle and live not in idle)


@case("group-admin/describe")
def described(env):
    topic, group = env.topic(2), env.name()
    with Worker(env, group, topic, client_id="first") as worker, env.admin() as admin:
        eventually("assigned", lambda: worker.numbers == [0, 1])
        found = admin.describe_group(group)
        equal("state and assignor", (found.state, found.assignor), ("Stable", "range"))
        (member,) = found.members
        equal("client", member.client_id, "first")
        equal("assignment", sorted(member.assignment), [(topic, 0), (topic, 1)])


@case("group-admin/describe-static")
def describe_static(env):
    topic, group = env.topic(), env.name()
    with Worker(env, group, topic, group_instance_id="one") as worker, env.admin() as admin:
        eventually("assigned", lambda: worker.numbers == [0])
        (member,) = admin.describe_group(group).members
        equal("group.instance.id", member.instance_id, "one")


@case("group-admin/offsets")
def offsets(env):
    topic, group = env.topic(3), env.name()
    settle(env, group, topic, 2)
    with env.admin() as admin:
        equal("committed offsets", admin.group_offsets(group), {(topic, 0): (2, "note")})
        equal("of an unknown group", admin.group_offsets(env.name()), {})


@case("group-admin/alter-offsets")
def alter_offsets(env):
    topic, group = env.topic(2), env.name()
    fill(env, topic, ["a", "b", "c"])
    settle(env, group, topic, 3)
    with env.admin() as admin:
        admin.alter_group_offsets(group, {(topic, 0): 1, (topic, 1): 0})
        places = {at: offset for at, (offset, _) in admin.group_offsets(group).items()}
        equal("offsets", places, {(topic, 0): 1, (topic, 1): 0})
        with Worker(env, group, topic) as worker:
            eventually("goes on there", lambda: [r.value for r in worker.seen] == [b"b", b"c"])
            error = refused(lambda: admin.alter_group_offsets(group, {(topic, 0): 0}))
            equal("error while it has members", error, "UNKNOWN_MEMBER_ID")


@case("group-admin/delete-offsets")
def delete_offsets(env):
    topic, other, group = env.topic(2), env.topic(), env.name()
    settle(env, group, topic)
    settle(env, group, other)
    with env.admin() as admin:
        admin.delete_group_offsets(group, [(topic, 0)])
        equal("left", set(admin.group_offsets(group)), {(other, 0)})
        settle(env, group, topic)
        with Worker(env, group, topic) as worker:
            eventually("assigned", lambda: worker.numbers == [0, 1])
            error = refused(lambda: admin.delete_group_offsets(group, [(topic, 0)]))
            equal("error of a subscribed topic", error, "GROUP_SUBSCRIBED_TO_TOPIC")
            admin.delete_group_offsets(group, [(other, 0)])
            equal("left", set(admin.group_offsets(group)), {(topic, 0)})
        error = refused(lambda: admin.delete_group_offsets(env.name(), [(topic, 0)]))
        equal("error of an unknown group", error, "GROUP_ID_NOT_FOUND")


@case("group-admin/delete")
def delete(env):
    topic, group = env.topic(), env.name()
    fill(env, topic, ["a"])
    with env.admin() as admin:
        with Worker(env, group, topic) as worker:
            eventually("assigned", lambda: worker.numbers == [0])
            error = refused(lambda: admin.delete_group(group))
            equal("error while it has members", error, "NON_EMPTY_GROUP")
        settle(env, group, topic)
        admin.delete_group(group)
        holds("it is gone", group not in admin.groups())
        equal("its offsets are gone", admin.group_offsets(group), {})
        equal("error of an unknown group", refused(lambda: admin.delete_group(group)), "GROUP_ID_NOT_FOUND")
    with env.consumer(group) as consumer:
        consumer.subscribe([topic])
        equal("begins anew", read(consumer, 1)[0].offset, 0)


@case("group-admin/remove-member")
def remove_member(env):
    topic, group = env.topic(2), env.name()
    slow = {"session_timeout_ms": 30_000}
    with Worker(env, group, topic, **slow) as one, env.admin() as admin:
        two = Worker(env, group, topic, group_instance_id="static", **slow)
        eventually("one each", lambda: len(one.numbers) == len(two.numbers) == 1)
        two.stop()
        admin.remove_static_member(group, "static")
        eventually("all partitions at once", lambda: one.numbers == [0, 1], 15)
        error = refused(lambda: admin.remove_static_member(group, "nobody"))
        equal("error of an unknown member", error, "UNKNOWN_MEMBER_ID")
