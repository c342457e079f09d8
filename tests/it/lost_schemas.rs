//! The topic of the schemas is deleted: no id is given to a second schema, and no record is read with another one.

use std::fs;

use serde_json::{Value, json};

use crate::{
    registration::{heals, id_of},
    registry::{SCHEMA, framed, send, wider},
    support::{
        http::Http,
        server::{Node, Server, run},
        wait::{self, is},
    },
};

/// Another schema with the fields of the sensors', under which their bytes are read as something else in silence.
fn twisted() -> String {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.swap(0, 4);
    schema.to_string()
}

async fn registered(registry: &str, subject: &str, schema: &str) -> u64 {
    let path = format!("/subjects/{subject}/versions");
    let (status, answer) = Http::new(registry).post(&path, &json!({ "schema": schema })).await;
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_u64().unwrap()
}

fn delete_schemas(server: &Server) {
    let url = format!("http://{}", server.http.address());
    let (code, said, complaint) = run(server.node(), &["topics", "delete", "_schemas", "--force", "--url", &url]);
    assert_eq!(code, Some(0), "{said}{complaint}");
}

/// Waits until readiness names the loss, and what became of it.
async fn says_that_they_were_written_back(server: &Server) {
    wait::until("readiness says what was lost", async || {
        let ready = server.http.try_get("/health/ready").await?;
        let mut said = ready["degraded"].as_array().unwrap().iter().filter_map(Value::as_str);
        let said = said.find(|said| said.contains("platform/registry/follower") && said.contains("written back"));
        said.map(drop).ok_or_else(|| ready.to_string())
    })
    .await;
}

#[actix_rt::test]
async fn schemas_whose_topic_is_deleted_while_the_server_runs_come_back_under_their_ids() {
    let server = Node::somewhere().start().await;
    let (registry, sensors) = (server.registry.clone(), id_of(&server.registry).await);
    let other = registered(&registry, "other-value", &twisted()).await;
    let all = Http::new(&registry).get("/schemas").await;
    let mut last = all.as_array().unwrap().iter().map(|version| version["id"].as_u64().unwrap()).max().unwrap();
    for round in 0..2 {
        delete_schemas(&server);
        // A producer that has its id goes on, and others register.
        send(&server, round, &framed(SCHEMA, sensors, "cached"));
        let field = json!({"name": format!("more{round}"), "type": "int", "default": 0});
        let new = registered(&registry, "new-value", &wider(&field)).await;
        assert!(new > last, "{new} was given before");
        last = new;
        says_that_they_were_written_back(&server).await;
        assert_eq!(Http::new(&registry).get("/schemas?subjectPrefix=other").await[0]["id"], other);
    }
    let log = fs::read_to_string(server.node().path("log")).unwrap();
    assert!(log.contains("topic _schemas does not exist any more") && log.contains("under the same ids"), "{log}");
    // A registry without memory finds all of it in the topic.
    let (_, node) = server.terminate().await;
    let server = node.start().await;
    let again = Http::new(&server.registry).get("/schemas").await;
    for version in all.as_array().unwrap() {
        assert!(again.as_array().unwrap().contains(version), "{version}: {again}");
    }
    let url = format!("http://{}", server.http.address());
    let (_, said, _) = run(server.node(), &["topics", "describe", "_schemas", "--url", &url]);
    assert!(said.contains("compact"), "{said}");
    let database = server.database();
    let cached = "SELECT count(*) FROM sensor_readings WHERE sensor_id = 'cached' AND location = 'hall'";
    wait::until("the producer's records are stored", async || is(database.number(cached).await, &2)).await;
    assert_eq!(database.count("dead_letters").await, 0);
}

#[actix_rt::test]
async fn no_id_is_given_again_where_the_topic_was_deleted_while_the_server_was_away() {
    // A cluster whose own registry does not remember these schemas.
    let cluster = Node::new().set("registry.embedded.topic", "_others").start().await;
    let server = Node::new().set("kafka.bootstrap", cluster.kafka()).set("kafka.consumer_group", "away").start().await;
    let known = id_of(&server.registry).await;
    let old = registered(&server.registry, "old-value", &twisted()).await;
    let (_, node) = server.terminate().await;
    delete_schemas(&cluster);

    let server = node.start().await;
    let log = fs::read_to_string(server.node().path("log")).unwrap();
    assert!(
        log.contains(&format!("schema ids up to {old} were given")) && log.contains("No id is given again"),
        "{log}"
    );
    heals(&server).await;
    let new = id_of(&server.registry).await;
    assert!(new > old, "{new} was given before");
    send(&server, 0, &framed(SCHEMA, known, "old id"));
    send(&server, 1, &framed(SCHEMA, new, "new id"));
    let database = server.database();
    let stored = "SELECT count(*) FROM sensor_readings WHERE sensor_id = 'new id' AND location = 'hall'";
    wait::until("the record with the new id is stored", async || is(database.number(stored).await, &1)).await;
    assert_eq!((database.count("sensor_readings").await, database.count("dead_letters").await), (1, 1));
}
