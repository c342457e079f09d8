//! Host, Origin, tokens and roles.

use super::{
    super::{
        HttpSettings,
        access::{Access, AccessToken, HostRule, Role},
    },
    client::{Reply, Running},
};

const RECORDS: &str = "/api/v1/streams/sensors/records";
const INJECT: &str = "/api/v1/supervision/pipelines/lane/inject";

fn with_tokens() -> Running {
    let token = |name: &str, role| AccessToken { name: name.to_owned(), role, secret: format!("{name}-secret") };
    let tokens = vec![token("vera", Role::Viewer), token("otto", Role::Operator), token("ada", Role::Admin)];
    let hosts = HostRule::new(["Streams.Example".to_owned()]);
    Running::with(HttpSettings { access: Access { hosts, tokens }, ..HttpSettings::default() })
}

fn as_user(server: &Running, user: &str, method: &str, path: &str, body: &str) -> Reply {
    server.call(method, path, &[("Authorization", &format!("Bearer {user}-secret"))], body)
}

#[test]
fn a_foreign_host_or_origin_may_not_change_state() {
    let server = Running::start();
    let post = |headers: &[(&str, &str)]| server.call("POST", RECORDS, headers, "{\"a\":1}").status;
    assert_eq!(post(&[]), 202);
    for host in ["localhost:8000", "LOCALHOST", "127.0.0.1:1", "127.1.2.3", "[::1]:8000"] {
        assert_eq!(post(&[("Host", host)]), 202, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "10.0.0.1", ""] {
        assert_eq!(post(&[("Host", host)]), 403, "{host}");
    }
    assert_eq!(post(&[("Origin", "http://localhost:3000")]), 202);
    for origin in ["http://evil.example", "null", "https://127.0.0.1.evil.example"] {
        assert_eq!(post(&[("Origin", origin)]), 403, "{origin}");
    }
    let read = server.call("GET", "/api/v1/sensors/latest", &[("Host", "evil.example")], "");
    assert_eq!(read.status, 200, "reads are left to the browser's own rules");
}

#[test]
fn configured_hosts_are_ours_too() {
    let server = with_tokens();
    let headers = [("Authorization", "Bearer otto-secret"), ("Host", "streams.example:443")];
    assert_eq!(server.call("POST", RECORDS, &headers, "{\"a\":1}").status, 202);
}

#[test]
fn pages_of_our_origins_may_read_and_ask_first() {
    let server = Running::start();
    let ours = [("Origin", "http://localhost:3000")];
    let reply = server.call("GET", "/api/v1/sensors/latest", &ours, "");
    assert_eq!(reply.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(server.call("OPTIONS", RECORDS, &ours, "").status, 204);
    let foreign = server.call("GET", "/api/v1/sensors/latest", &[("Origin", "http://evil.example")], "");
    assert_eq!(foreign.header("access-control-allow-origin"), None);
}

#[test]
fn with_tokens_every_route_with_data_needs_one() {
    let server = with_tokens();
    for path in ["/api/v1/sensors/latest", "/metrics", "/api/v1/supervision/tree", "/nothing"] {
        let reply = server.get(path);
        assert_eq!(reply.status, 401, "{path}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
    for path in ["/", "/health/live", "/health/ready", "/console/", "/docs/", "/openapi.json"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for wrong in ["Bearer nobody", "Bearer ", "Basic vera-secret", "vera-secret"] {
        let headers = [("Authorization", wrong)];
        assert_eq!(server.call("GET", "/api/v1/lag", &headers, "").status, 401, "{wrong}");
    }
}

#[test]
fn each_role_may_do_what_it_should() {
    let server = with_tokens();
    let cases = [("vera", [200, 403, 403]), ("otto", [200, 202, 403]), ("ada", [200, 202, 200])];
    for (user, expected) in cases {
        let read = as_user(&server, user, "GET", "/api/v1/lag", "").status;
        let append = as_user(&server, user, "POST", RECORDS, "{\"a\":1}").status;
        let inject = as_user(&server, user, "POST", INJECT, r#"{"fault": "panic"}"#).status;
        assert_eq!([read, append, inject], expected, "{user}");
    }
    assert!(server.fake.asked().starts_with("ada: pipelines/lane"), "the audit gets the name");
}

/// Every route that changes something: method, path in the document, an example with its body, and who may do it.
const CHANGES: [(&str, &str, &str, &str, Role); 14] = {
    const COMMAND: &str = "/api/v1/supervision/{path}/{command}";
    const FAULT: &str = r#"{"fault": "panic"}"#;
    [
        ("POST", "/api/v1/streams/{stream}/records", RECORDS, r#"{"a": 1}"#, Role::Operator),
        ("POST", "/api/v1/topics/{topic}/records", "/api/v1/topics/orders/records", "{}", Role::Operator),
        (
            "POST",
            "/api/v1/groups/{group}/offsets",
            "/api/v1/groups/billing/offsets",
            r#"{"topic": "orders", "to": "latest"}"#,
            Role::Operator,
        ),
        ("POST", COMMAND, "/api/v1/supervision/pipelines/lane/restart", "", Role::Operator),
        ("POST", COMMAND, "/api/v1/supervision/pipelines/lane/pause", "", Role::Operator),
        ("POST", COMMAND, "/api/v1/supervision/pipelines/lane/resume", "", Role::Operator),
        ("POST", COMMAND, "/api/v1/supervision/pipelines/lane/drain", "", Role::Operator),
        ("POST", COMMAND, "/api/v1/supervision/pipelines/lane/disarm", "", Role::Operator),
        ("POST", COMMAND, INJECT, FAULT, Role::Admin),
        ("POST", "/api/v1/supervision/{path}/drill", "/api/v1/supervision/pipelines/lane/drill", FAULT, Role::Admin),
        (
            "PATCH",
            "/api/v1/supervision/{path}/policy",
            "/api/v1/supervision/pipelines/sink/policy",
            r#"{"restart": "transient"}"#,
            Role::Admin,
        ),
        ("POST", "/api/v1/topics", "/api/v1/topics", r#"{"name": "new"}"#, Role::Admin),
        ("PATCH", "/api/v1/topics/{topic}", "/api/v1/topics/orders", r#"{"partitions": 2}"#, Role::Admin),
        ("DELETE", "/api/v1/topics/{topic}", "/api/v1/topics/orders", "", Role::Admin),
    ]
};

#[test]
fn who_may_change_something_is_said_of_every_route() {
    let document = Running::start().get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap().iter();
    let routes = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| (method.to_ascii_uppercase(), path.clone()))
    });
    let mut served: Vec<(String, String)> = routes.filter(|(method, _)| method != "GET").collect();
    let mut said: Vec<_> =
        CHANGES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    served.sort();
    said.sort();
    said.dedup();
    assert_eq!(served, said);
}

#[test]
fn each_role_may_change_what_it_should_and_nothing_else() {
    let server = with_tokens();
    for (method, _, path, body, needed) in CHANGES {
        for (user, role) in [("vera", Role::Viewer), ("otto", Role::Operator), ("ada", Role::Admin)] {
            let before = server.fake.asked.lock().len();
            let status = as_user(&server, user, method, path, body).status;
            let asked = server.fake.asked.lock().len() - before;
            if role >= needed {
                assert!((200..300).contains(&status), "{user}: {method} {path}: {status}");
                assert!(asked > 0, "{user}: {method} {path}: nothing was done");
            } else {
                assert_eq!((status, asked), (403, 0), "{user}: {method} {path}");
            }
        }
    }
}

#[test]
fn a_token_without_a_secret_lets_nobody_in() {
    let empty = AccessToken { name: "nobody".to_owned(), role: Role::Admin, secret: String::new() };
    let vera = AccessToken { name: "vera".to_owned(), role: Role::Viewer, secret: "vera-secret".to_owned() };
    let access = Access { hosts: HostRule::default(), tokens: vec![empty, vera] };
    let server = Running::with(HttpSettings { access, ..HttpSettings::default() });
    for headers in [&[][..], &[("Authorization", "Bearer ")], &[("Authorization", "Bearer  ")]] {
        assert_eq!(server.call("POST", RECORDS, headers, r#"{"a": 1}"#).status, 401, "{headers:?}");
    }
    for (path, headers) in
        [("/ws/sensors?access_token=", &[][..]), ("/ws/sensors", &[("Sec-WebSocket-Protocol", "bearer.")])]
    {
        let (_, head) = server.socket(path, headers);
        assert!(head.starts_with("HTTP/1.1 401"), "{path} {headers:?}: {head}");
    }
    assert_eq!(as_user(&server, "vera", "GET", "/api/v1/lag", "").status, 200, "the others are as before");
}

#[test]
fn viewers_read_topics_operators_write_records_and_admins_change_topics() {
    let server = with_tokens();
    let cases = [
        ("GET", "/api/v1/topics/orders/records", "", [200, 200, 200]),
        ("POST", "/api/v1/topics/orders/records", "{}", [403, 201, 201]),
        ("POST", "/api/v1/groups/billing/offsets", r#"{"topic": "orders", "to": "latest"}"#, [403, 200, 200]),
        ("POST", "/api/v1/topics", r#"{"name": "new"}"#, [403, 403, 201]),
        ("PATCH", "/api/v1/topics/orders", r#"{"partitions": 2}"#, [403, 403, 200]),
        ("DELETE", "/api/v1/topics/orders", "", [403, 403, 204]),
        ("PATCH", "/api/v1/supervision/pipelines/sink/policy", r#"{"restart": "transient"}"#, [403, 403, 200]),
        ("POST", "/api/v1/%74opics", r#"{"name": "new"}"#, [403, 403, 201]),
        ("DELETE", "/api/v1/%74opics/orders", "", [403, 403, 204]),
    ];
    for (method, path, body, expected) in cases {
        let statuses = ["vera", "otto", "ada"].map(|user| as_user(&server, user, method, path, body).status);
        assert_eq!(statuses, expected, "{method} {path}");
    }
}

#[test]
fn a_socket_takes_its_token_from_the_query_or_a_sub_protocol() {
    let server = with_tokens();
    let open = |path: &str, headers: &[(&str, &str)]| server.socket(path, headers).1;
    assert!(open("/ws/sensors", &[]).starts_with("HTTP/1.1 401"));
    assert!(open("/ws/sensors?access_token=vera-secret", &[]).starts_with("HTTP/1.1 101"));
    let alone = open("/ws/sensors", &[("Sec-WebSocket-Protocol", "bearer.vera-secret")]);
    assert!(alone.contains("sec-websocket-protocol: bearer.vera-secret"), "{alone}");
    let named = open("/ws/sensors", &[("Sec-WebSocket-Protocol", "bearer.vera-secret, streamward.v1")]);
    assert!(named.contains("sec-websocket-protocol: streamward.v1"), "{named}");
    let query = server.get("/api/v1/lag?access_token=vera-secret");
    assert_eq!(query.status, 401, "tokens in addresses end up in logs: only sockets, which cannot do otherwise");
}

#[test]
fn an_encoded_address_is_not_another_one() {
    let server = with_tokens();
    let fault = r#"{"fault": "panic"}"#;
    let inject = as_user(&server, "otto", "POST", "/api/v1/supervision/pipelines/lane/injec%74", fault);
    assert_eq!(inject.status, 403);
    let server = Running::start();
    let foreign = [("Origin", "http://evil.example")];
    for path in ["/ws/sensors", "/%77s/sensors"] {
        assert!(server.socket(path, &foreign).1.starts_with("HTTP/1.1 403"), "{path}");
    }
}

#[test]
fn a_secret_is_not_printed() {
    let token = AccessToken { name: "ada".to_owned(), role: Role::Admin, secret: "hidden".to_owned() };
    assert!(!format!("{token:?}").contains("hidden"));
}

#[test]
fn callers_can_ask_for_their_role() {
    let server = with_tokens();
    let role = |user| as_user(&server, user, "GET", "/api/v1/caller", "").json()["role"].clone();
    assert_eq!(["vera", "otto", "ada"].map(role), ["viewer", "operator", "admin"]);
    assert_eq!(server.get("/api/v1/caller").status, 401);
    assert_eq!(Running::start().get("/api/v1/caller").json()["role"], "admin", "without tokens everyone may do all");
}
