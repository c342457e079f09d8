//! A server that was killed, and is started with another configuration: what it reads again makes the state that it had,
//! or it is refused.

use super::*;

const FIRES: &str = "{ rule: { name: high, when: value > 0 } }";

/// A server that writes no checkpoint while it runs.
async fn start(config: &str) -> Server {
    let node = written(Node::new().set("storage.checkpoint_every", "10m"), config);
    fs::write(node.path("order.avsc"), SCHEMA).unwrap();
    node.start().await
}

/// Exit code and words of `check`.
fn checked(node: &Node, allowed: &[&str]) -> (Option<i32>, String) {
    let allow = allowed.iter().flat_map(|word| ["--allow", word]);
    let output = node.command(&["check"]).args(allow).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

async fn firing(server: &Server) -> i64 {
    server.database().number("SELECT count(*) FROM alerts WHERE state = 'firing' AND latest = 1").await
}

#[actix_rt::test]
async fn other_settings_are_refused_until_the_server_has_stopped_with_those_of_before() {
    let body = |filter: &str, window: &str, rule: &str| {
        steps(&[&format!("{{ filter: {filter} }}"), &format!("{{ window: {window} }}"), &format!("{{ rule: {rule} }}")])
    };
    let plain = body("weight > 0", WINDOW, RULE);
    let before = config("", "orders", &plain);
    let server = start(&before).await;
    post(&server, &[1, 2, 3, 61], 4).await;
    let node = server.kill();
    let (settings, orders) = (|text: &str| config(text, "orders", &plain), |body: &str| config("", "orders", body));
    let changes = [
        (settings(", format: json"), "format was auto"),
        (settings(", max_record: 3KiB"), "max_record"),
        (settings("").replace("out_of_orderness: 0s", "out_of_orderness: 1s"), "out_of_orderness was 0s"),
        (settings(", topic: elsewhere"), "topic was orders"),
        (
            orders(&body("weight > 1", WINDOW, RULE)),
            "was with allowed_lateness 10m behind filter weight > 0, and is to be with allowed_lateness 10m behind filter weight > 1",
        ),
        (orders(&body("weight > 0", &WINDOW.replace("10m", "9m"), RULE)), "allowed_lateness"),
        (orders(&body("weight > 0", WINDOW, &RULE.replace("1000", "999"))), "rule high was when value > 1000 "),
        (config("", "renamed", &body("weight > 0", WINDOW, &RULE.replace("1000", "999"))), "rule high"),
    ];
    let mut node = node;
    for (changed, word) in &changes {
        node = written(node, changed);
        let (code, said) = checked(&node, &[]);
        assert_eq!(code, Some(2), "{said}");
        let words = [*word, "4 records", "--allow replay/"];
        assert!(words.iter().all(|word| said.contains(word)), "{said} without {words:?}");
    }
    node = written(node, &before);
    let field = |text: &str| SCHEMA.replace("\"fields\": [", &format!("\"fields\": [{text}, "));
    let schemas = [
        (SCHEMA.replace("\"default\": 1.0", "\"default\": 2.0"), Some("field weight")),
        (field(r#"{"name": "floor", "type": "int"}"#), Some("fields that a record must have")),
        (field(r#"{"name": "floor", "type": "int", "default": 0}"#), None),
    ];
    for (schema, word) in schemas {
        fs::write(node.path("order.avsc"), schema).unwrap();
        let (code, said) = checked(&node, &[]);
        assert_eq!(code, if word.is_some() { Some(2) } else { Some(0) }, "{said}");
        assert!(word.is_none_or(|word| said.contains(word)), "{said}");
    }
    fs::write(node.path("order.avsc"), SCHEMA).unwrap();
    assert_eq!(checked(&node, &[]).0, Some(0));
    let server = node.start().await;
    post(&server, &[62], 5).await;
    let (_, mut node) = server.terminate().await;
    for (changed, _) in &changes {
        node = written(node, changed);
        let (code, said) = checked(&node, &[]);
        assert_eq!(code, Some(0), "{said}");
    }
    let server = node.start().await;
    post(&server, &[121], 6).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2), (60, "s0", 1), (60, "s1", 1)]).await;
    server.verify();
}

#[actix_rt::test]
async fn allowed_windows_and_rules_begin_at_the_position_and_nothing_fires_for_ever() {
    let with = |filter: &str| config("", "orders", &steps(&[filter, &window(WINDOW), FIRES]));
    let server = start(&with("{ filter: weight > 0 }")).await;
    post(&server, &[1, 2, 61, 62], 4).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 1)]).await;
    assert_eq!(firing(&server).await, 1);
    let node = written(server.kill(), &with("{ filter: weight >= 0 }"));
    assert_eq!(checked(&node, &["replay/orders"]).0, Some(0));
    let server = node.allow("replay/orders").start().await;
    let resolved = "SELECT count(*) FROM alerts WHERE state = 'resolved' AND message LIKE '%begins anew%'";
    assert_eq!((firing(&server).await, server.database().number(resolved).await), (0, 1));
    post(&server, &[63, 121, 122, 181], 8).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 1), (120, "s0", 1), (120, "s1", 1)]).await;
    assert_eq!(firing(&server).await, 1, "the rule judges what comes");
    server.verify();
}

#[actix_rt::test]
async fn a_rule_that_is_new_says_nothing_of_what_was_before() {
    for checkpoint_every in ["10m", "1ms"] {
        let before = config("", "orders", &steps(&[&window(WINDOW)]));
        let node = written(Node::new().set("storage.checkpoint_every", checkpoint_every), &before);
        fs::write(node.path("order.avsc"), SCHEMA).unwrap();
        let server = node.start().await;
        post(&server, &[1, 2, 3], 3).await;
        let node = written(server.kill(), &config("", "orders", &steps(&[&window(WINDOW), FIRES])));
        let server = node.start().await;
        assert_eq!(firing(&server).await, 0);
        post(&server, &[4], 4).await;
        wait::until("it fires", async || wait::is(firing(&server).await, &1)).await;
        let opened = server.database().number("SELECT \"offset\" FROM alerts").await;
        assert_eq!(opened, 3, "by the first record that the rule was there for");
        // The state of the window is whole.
        post(&server, &[61], 5).await;
        windows_are(&server, &[(0, "s0", 2), (0, "s1", 2)]).await;
        // And once more, from a checkpoint that knows the rule.
        let (_, node) = server.terminate().await;
        let server = node.start().await;
        post(&server, &[62], 6).await;
        assert_eq!(firing(&server).await, 1);
        server.verify();
    }
}

#[actix_rt::test]
async fn a_start_that_fails_carries_nothing_out() {
    let before = config("", "orders", &steps(&[&window(WINDOW)]));
    let server = start(&before).await;
    post(&server, &[1, 2, 3], 3).await;
    let (_, node) = server.terminate().await;
    let node = written(node, &config("", "orders", PLAIN));
    let settings = ["kafka.bootstrap=127.0.0.1:1", "kafka.start_timeout=1s", "http.listen=127.0.0.1:0"];
    let arguments = settings.iter().flat_map(|setting| ["--set", setting]);
    let output = node.command(&["run", "--no-simulators"]).args(arguments).output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let server = written(node, &before).start().await;
    post(&server, &[4, 61], 5).await;
    windows_are(&server, &[(0, "s0", 2), (0, "s1", 2)]).await;
}

#[actix_rt::test]
async fn a_window_that_began_and_was_killed_at_once_loses_none_of_its_windows() {
    let server = start(&config("", "orders", PLAIN)).await;
    post(&server, &[1], 1).await;
    let (_, node) = server.terminate().await;
    let with = config("", "orders", &steps(&[&window(WINDOW)]));
    let server = written(node, &with).start().await;
    post(&server, &[61, 62], 3).await;
    let server = server.kill().start().await;
    post(&server, &[63, 121], 5).await;
    windows_are(&server, &[(60, "s0", 1), (60, "s1", 2)]).await;
    server.verify();
}

#[actix_rt::test]
async fn an_alert_that_the_server_ended_fires_again_where_its_condition_holds() {
    let with = config("", "orders", &steps(&[FIRES]));
    let server = start(&with).await;
    post(&server, &[1, 2], 2).await;
    assert_eq!(firing(&server).await, 1);
    let server = written(server.kill(), "streams: {}\npipelines: {}\n").start().await;
    wait::until("the server ends it", async || wait::is(firing(&server).await, &0)).await;
    let (_, node) = server.terminate().await;
    let server = written(node, &with).start().await;
    post(&server, &[3], 3).await;
    wait::until("it fires again", async || wait::is(firing(&server).await, &1)).await;
}

#[actix_rt::test]
async fn where_records_that_a_rule_had_judged_are_gone_its_alert_ends() {
    let with = config("", "orders", &steps(&[FIRES]));
    let server = start(&with).await;
    post(&server, &[1, 2, 3], 3).await;
    assert_eq!(firing(&server).await, 1);
    crate::support::kafka::delete_records(server.kafka(), "orders", (0, 2)).await;
    let server = server.kill().start().await;
    wait::until("the server ends it", async || wait::is(firing(&server).await, &0)).await;
    post(&server, &[4], 4).await;
    wait::until("the next record fires", async || wait::is(firing(&server).await, &1)).await;
    let pairs = "SELECT count(*) FROM alerts a WHERE n = 1 AND NOT EXISTS \
                 (SELECT 1 FROM alerts b WHERE b.alert_id = a.alert_id AND b.n = 0)";
    assert_eq!(server.database().number(pairs).await, 0, "nothing ends that never fired");
    server.verify();
}
