use super::*;

const UUID: &str = "0b8f6c2e-5a3d-4d8e-9a51-1f2f0a6f5c11";

fn member() -> Member {
    Member { pipeline: "sensors".into(), group: "app-sensors".to_owned(), node_id: "a".to_owned(), known: None }
}

fn of_group(id: &str, client_id: &str) -> ffi::Member {
    let (id, client_id) = (id.to_owned(), client_id.to_owned());
    ffi::Member { id, client_id, host: "/10.0.0.7".to_owned(), assignment: Vec::new() }
}

fn group(protocol: &str, members: Vec<ffi::Member>) -> Group {
    let [name, state, protocol_type] = ["app-sensors", "Stable", "consumer"].map(str::to_owned);
    Group { name, state, protocol_type, protocol: protocol.to_owned(), members }
}

fn own() -> String {
    format!("a-sensors-{UUID}")
}

#[test]
fn the_member_of_the_known_id_is_this_servers_own_and_another_of_its_name_is_another_server() {
    let alone = group(ASSIGNOR, vec![of_group(&own(), "a-sensors")]);
    assert_eq!(member().judge(&alone, Some(&own())), None);
    for (of, known) in [(&alone, None), (&alone, Some("a-sensors-older"))] {
        let said = member().judge(of, known).unwrap();
        let words = ["node.id a ", "app-sensors", "client a-sensors at 10.0.0.7"];
        assert!(words.iter().all(|word| said.to_string().contains(word)), "{said}");
        assert!(said.way_out().contains("a node.id"), "{}", said.way_out());
    }
    let by_id_alone = group(ASSIGNOR, vec![of_group(&own(), "chosen")]);
    assert!(member().judge(&by_id_alone, None).unwrap().namesakes());
    let longer = group(ASSIGNOR, vec![of_group(&format!("a-sensors-b-{UUID}"), "a-sensors-b")]);
    assert!(!member().judge(&longer, None).unwrap().namesakes(), "a name that only begins like it");
}

#[test]
fn a_stranger_is_named_with_client_host_assignor_and_the_setting() {
    let said = |protocol: &str| {
        let members = vec![of_group(&own(), "a-sensors"), of_group("consumer-1-x", "consumer-1")];
        member().judge(&group(protocol, members), Some(&own())).unwrap()
    };
    let range = said("range");
    for word in ["group app-sensors is held with the assignor range", "client consumer-1 at 10.0.0.7", ASSIGNOR] {
        assert!(range.to_string().contains(word), "{range}");
    }
    assert!(range.way_out().contains("kafka.consumer_group"), "{}", range.way_out());
    for same in [ASSIGNOR, ""] {
        let said = said(same).to_string();
        assert!(said.contains("client consumer-1 at") && said.contains("a part of the partitions"), "{said}");
        assert!(!said.contains("a-sensors at"), "{said}");
    }
}

#[test]
fn a_group_of_another_type_is_named_with_it_and_of_many_members_their_number_is_told() {
    let members = (0..5).map(|number| of_group(&format!("{number}"), &format!("worker-{number}"))).collect();
    let connect = Group { protocol_type: "connect".to_owned(), ..group("sessioned", members) };
    let said = member().judge(&connect, None).unwrap().to_string();
    assert!(said.contains("type connect") && said.contains("worker-2 at 10.0.0.7 and 2 more"), "{said}");
}

#[test]
fn a_stranger_counts_from_the_second_look_on_and_one_of_our_name_once_the_group_is_settled() {
    let look = |state: &str, members: Vec<ffi::Member>| {
        member().judge(&Group { state: state.to_owned(), ..group(ASSIGNOR, members) }, None).unwrap()
    };
    let other = |id: &str| vec![of_group(id, "consumer-1")];
    assert!(look("Stable", other("x")).remain_from(&look("PreparingRebalance", other("x"))));
    assert!(!look("Stable", other("x")).remain_from(&look("Stable", other("y"))));
    let ours = || vec![of_group(&own(), "a-sensors")];
    assert!(look("Stable", ours()).remain_from(&look("Stable", ours())));
    assert!(!look("Stable", ours()).remain_from(&look("CompletingRebalance", ours())));
}

#[test]
fn the_ids_of_this_servers_members_outlive_it() {
    let folder = tempfile::tempdir().unwrap();
    KnownIds::open(folder.path()).set("sensors", "one".to_owned());
    let known = KnownIds::open(folder.path());
    known.set("series", "two".to_owned());
    let next = KnownIds::open(folder.path());
    assert_eq!(
        ["sensors", "series", "none"].map(|pipeline| next.get(pipeline)),
        [Some("one".to_owned()), Some("two".to_owned()), None]
    );
    std::fs::write(folder.path().join(FILE), "torn").unwrap();
    assert_eq!(KnownIds::open(folder.path()).get("sensors"), None, "a damaged file is none");
}
