//! Host, Origin, tokens and roles.

use super::{
    super::{
        HttpSettings,
        access::{Access, AccessToken, Role},
        hosts::{HostRule, Purpose},
    },
    client::{Reply, Running},
};

const RECORDS: &str = "/api/v1/streams/sensors/records";
const INJECT: &str = "/api/v1/supervision/pipelines/lane/inject";

fn with_tokens() -> Running {
    let token = |name: &str, role| AccessToken { name: name.to_owned(), role, secret: format!("{name}-secret") };
    let tokens = vec![token("vera", Role::Viewer), token("otto", Role::Operator), token("ada", Role::Admin)];
    let hosts = HostRule::new(["Streams.Example".to_owned()], ["https://ops.example".to_owned()]);
    Running::with(HttpSettings { access: Access { hosts, tokens }, ..HttpSettings::default() })
}

fn as_user(server: &Running, user: &str, method: &str, path: &str, body: &str) -> Reply {
    server.call(method, path, &[("Authorization", &format!("Bearer {user}-secret"))], body)
}

/// Routes of every kind: data, console, documentation, health, measurements.
const READS: [&str; 7] =
    ["/", "/api/v1/sensors/latest", "/metrics", "/console/", "/docs/", "/openapi.json", "/health/ready"];

#[test]
fn a_loopback_listener_answers_to_loopback_names_with_its_port_alone() {
    let server = Running::start();
    let port = server.address.port();
    let ask = |host: &str| {
        let reads = READS.map(|path| server.call("GET", path, &[("Host", host)], "").status);
        assert!(reads.iter().all(|status| *status == reads[0]), "{host}: {reads:?}");
        let post = server.call("POST", RECORDS, &[("Host", host)], "{\"a\":1}").status;
        let (_, socket) = server.socket_of(host, "/ws/sensors", &[]);
        (reads[0], post, socket.starts_with("HTTP/1.1 101"))
    };
    for name in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]"] {
        let host = format!("{name}:{port}");
        assert_eq!(ask(&host), (200, 202, true), "{host}");
    }
    let other = port ^ 1;
    let strangers = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0"];
    let with_port = strangers.map(|name| format!("{name}:{port}"));
    let wrong_port = ["localhost", "127.0.0.1", ""].map(str::to_owned).into_iter();
    let wrong_port = wrong_port.chain([format!("localhost:{other}"), format!("127.0.0.1:{port}{port}")]);
    for host in with_port.into_iter().chain(strangers.map(str::to_owned)).chain(wrong_port) {
        assert_eq!(ask(&host), (403, 403, false), "{host}");
    }
}

#[test]
fn only_pages_of_this_server_and_of_listed_origins_may_change_state() {
    let server = with_tokens();
    let port = server.address.port();
    let post = |host: Option<&str>, origin: &str| {
        let mut headers = vec![("Authorization", "Bearer otto-secret"), ("Origin", origin)];
        headers.extend(host.map(|host| ("Host", host)));
        server.call("POST", RECORDS, &headers, "{\"a\":1}").status
    };
    for origin in
        [format!("http://127.0.0.1:{port}"), format!("http://LOCALHOST:{port}"), format!("http://[::1]:{port}")]
    {
        assert_eq!(post(None, &origin), 202, "{origin}");
    }
    assert_eq!(post(None, "https://ops.example"), 202);
    assert_eq!(post(Some("streams.example"), "https://streams.example"), 202);
    assert_eq!(post(Some("streams.example:8443"), "https://streams.example:8443"), 202);
    let other = format!("http://localhost:{}", port ^ 1);
    let scheme = format!("https://localhost:{port}");
    let strangers = [
        "http://localhost",
        "http://localhost:3000",
        "http://evil.example",
        "null",
        "https://127.0.0.1.evil.example",
        "http://ops.example",
        "https://ops.example:444",
        "https://streams.example:444",
        &other,
        &scheme,
    ];
    for origin in strangers {
        assert_eq!(post(None, origin), 403, "{origin}");
    }
}

#[test]
fn a_listener_for_other_machines_is_read_under_any_name_and_changed_under_its_own() {
    use actix_web::http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

    let rule = HostRule::new(["streams.example".to_owned()], []).at("0.0.0.0:8000".parse().unwrap());
    let check = |host: &'static str, origin: Option<&'static str>, purpose| {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        rule.check(&headers, purpose).is_ok()
    };
    assert!(check("10.1.2.3:8000", None, Purpose::Read));
    assert!(!check("10.1.2.3:8000", None, Purpose::Change));
    for host in ["streams.example:8000", "localhost:18000", "127.0.0.1"] {
        assert!(check(host, None, Purpose::Change), "{host}");
    }
    assert!(check("localhost:18000", Some("http://localhost:18000"), Purpose::Change), "the port may be forwarded");
    assert!(!check("localhost:18000", Some("http://localhost:8000"), Purpose::Change));
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
    let own = format!("http://localhost:{}", server.address.port());
    let ours = [("Origin", own.as_str())];
    let reply = server.call("GET", "/api/v1/sensors/latest", &ours, "");
    assert_eq!(reply.header("access-control-allow-origin"), Some(own.as_str()));
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
fn roles_are_called_as_in_the_configuration() {
    let server = with_tokens();
    for (user, path, words) in [
        ("vera", RECORDS, "this needs the role operator, the token has viewer"),
        ("otto", "/api/v1/topics", "this needs the role admin, the token has operator"),
    ] {
        assert_eq!(as_user(&server, user, "POST", path, "{}").json()["detail"], words);
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
