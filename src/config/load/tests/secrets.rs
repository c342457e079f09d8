//! Secrets are shown nowhere, wherever and however they were given; client settings are checked.

use serde_json::Value;

use super::*;

/// Paths of the keys that hold secrets, by the schema, with a first item for lists.
fn secret_paths() -> Vec<String> {
    let schema: Value = serde_json::from_str(&Config::schema_json()).unwrap();
    let mut found = vec!["kafka.client.sasl.kerberos.kinit.cmd".to_owned(), "kafka.bootstrap".to_owned()];
    collect(&schema, &schema, "", &mut found);
    found
}

fn collect(root: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    match schema["$ref"].as_str() {
        Some("#/$defs/Secret" | "#/$defs/Url") => found.push(path.to_owned()),
        Some(name) => collect(root, &root["$defs"][name.trim_start_matches("#/$defs/")], path, found),
        None => {}
    }
    for way in schema["anyOf"].as_array().into_iter().flatten() {
        collect(root, way, path, found);
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        collect(root, schema, &node::join(path, key), found);
    }
    if schema["items"].is_object() {
        collect(root, &schema["items"], &node::join(path, "0"), found);
    }
}

#[test]
fn a_secret_is_not_shown_where_a_map_is_wanted() {
    let paths = secret_paths();
    assert!(paths.len() >= 7, "{paths:?}");
    for path in paths {
        let parts: Vec<&str> = path.split('.').collect();
        for depth in 1..=parts.len() {
            let place = parts[..depth].join(".");
            for value in ["hunter2", "[hunter2]", "{ hunter: hunter2 }", "{ name: [hunter2], password: [hunter2] }"] {
                for given in [given("").set(&place, value), given(&nested(&parts[..depth], value))] {
                    let Err(faults) = Config::load(&given.sources) else { continue };
                    let shown = format!("{faults}{}", serde_json::to_string(&faults.named).unwrap());
                    assert!(!shown.contains("hunter2"), "{place}={value}: {shown}");
                }
            }
        }
    }
}

/// A file with a value at a path.
fn nested(parts: &[&str], value: &str) -> String {
    let mut yaml = String::new();
    for (depth, part) in parts.iter().filter(|part| **part != "0").enumerate() {
        yaml += &format!("{}{part}:\n", "  ".repeat(depth));
    }
    format!("{} {value}\n", yaml.trim_end())
}

#[test]
fn credentials_among_the_brokers_are_refused_with_the_way() {
    for brokers in ["me:hunter2@k:9092", "k:9092,sasl://me:hunter2@k:9093", "SASL_SSL://k:9092"] {
        let given = given(&format!("kafka: {{ bootstrap: '{brokers}' }}\n"));
        let shown = Config::load(&given.sources).unwrap_err().to_string();
        assert!(shown.contains("kafka.bootstrap") && shown.contains("sasl.password"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_command_that_may_hold_a_password_is_hidden() {
    let config = given("kafka: { client: { sasl.kerberos.kinit.cmd: 'echo hunter2 | kinit me', client.rack: r1 } }\n");
    let settings = config.loaded_anyway().config.kafka.client;
    let shown = format!("{settings:?}{}", serde_json::to_string(&settings).unwrap());
    assert!(shown.contains("r1") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn client_settings_that_break_delivery_are_refused_with_the_reason() {
    let yaml = "\
kafka:
  client:
    acks: 0
    enable.idempotence: false
    max.in.flight: 1000000
    isolation.level: read_uncommitted
    transactional.id: mine
    group.instance.id: me
    delivery.report.only.error: true
";
    let lines = given(yaml).lines();
    let wanted = [
        "3:11 kafka.client.acks: 'acks' must be all: ",
        "9:33 kafka.client.delivery.report.only.error: 'delivery.report.only.error' must be false: ",
        "4:25 kafka.client.enable.idempotence: 'enable.idempotence' must be true: ",
        "8:24 kafka.client.group.instance.id: 'group.instance.id' cannot be set here: node.id decides it",
        "6:22 kafka.client.isolation.level: 'isolation.level' cannot be set here: ",
        "5:20 kafka.client.max.in.flight: 'max.in.flight' must be at most 5: ",
        "7:23 kafka.client.transactional.id: 'transactional.id' cannot be set here: ",
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "{line} is not {wanted}");
    }
    assert!(given("kafka: { client: { acks: all, enable.idempotence: true, max.in.flight: 5 } }\n").lines().is_empty());
}

#[test]
fn client_settings_that_the_library_refuses_are_named_at_their_place() {
    let yaml = "\
kafka:
  client:
    compression.type: brotli
    fetch.min.bytes: 0
    no.such.setting: 1
";
    let lines = given(yaml).lines();
    let wanted = [
        "3:23 kafka.client.compression.type: Invalid value",
        "4:22 kafka.client.fetch.min.bytes: Configuration property \"fetch.min.bytes\" value 0 is outside allowed range",
        "5:22 kafka.client.no.such.setting: No such configuration property",
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "{line} is not {wanted}");
    }
}

#[test]
fn a_build_without_tls_refuses_tls_and_scram_with_the_command_that_the_documentation_gives() {
    let documented = include_str!("../../../../docs/kafka.md");
    let command = "cargo build --release --features tls";
    assert!(documented.contains(&format!("\n{command}\n")));
    let scram = "sasl.username: me, sasl.password: hunter2, security.protocol";
    for (settings, lacking) in [
        ("security.protocol: ssl".to_owned(), 1),
        ("security.protocol: SSL".to_owned(), 1),
        (format!("sasl.mechanism: SCRAM-SHA-512, {scram}: sasl_plaintext"), 1),
        (format!("sasl.mechanisms: SCRAM-SHA-256, {scram}: SASL_SSL"), 2),
        ("ssl.endpoint.identification.algorithm: https, ssl.key.password: hunter2".to_owned(), 2),
        ("enable.ssl.certificate.verification: true".to_owned(), 1),
    ] {
        let lines = given(&format!("kafka: {{ client: {{ {settings} }} }}\n")).lines();
        let wanted = if cfg!(feature = "tls") { 0 } else { lacking };
        assert_eq!(lines.len(), wanted, "{settings}: {lines:#?}");
        for line in lines {
            assert!(line.contains(" kafka.client.") && line.contains(&format!("'{command}'")), "{settings}: {line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }
}

#[test]
fn bearer_tokens_are_taken_from_a_token_server_by_a_build_with_the_feature_oidc_alone() {
    let oidc = "\
kafka:
  client:
    security.protocol: sasl_plaintext
    sasl.mechanism: OAUTHBEARER
    sasl.oauthbearer.method: oidc
    sasl.oauthbearer.client.id: me
    sasl.oauthbearer.client.secret: hunter2
    sasl.oauthbearer.token.endpoint.url: https://t/
";
    let lines = given(oidc).lines();
    assert_eq!(lines.len(), if cfg!(feature = "oidc") { 0 } else { 5 }, "{lines:#?}");
    for line in &lines {
        assert!(line.contains("--features oidc") && line.contains("SCRAM-SHA-512"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    for settings in ["sasl.mechanisms: OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt: true"] {
        let lines = given(&format!("kafka: {{ client: {{ {settings} }} }}\n")).lines();
        let is_about_tokens = |line: &String| line.contains("oauthbearer") || line.contains("oidc");
        assert!(lines.first().is_some_and(is_about_tokens), "{settings}: {lines:?}");
    }
}
