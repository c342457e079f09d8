//! The consumer group of a pipeline on a Kafka outside, when somebody else is in it: a server waits before it joins, names
//! who is there, and goes on once it is gone. The Kafka is another server's embedded broker, or an Apache Kafka.

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};

use crate::support::{
    readings::TOPIC,
    server::{Node, Server, outside},
    wait::{self, is},
};

/// A Kafka outside, and a group of its own for each test.
struct Cluster {
    address: String,
    /// `kafka.consumer_group`.
    prefix: String,
    _server: Option<Server>,
}

impl Cluster {
    async fn new(test: &str) -> Self {
        let prefix = format!("{test}-{}", std::process::id());
        match outside() {
            Some(address) => Self { address, prefix, _server: None },
            None => {
                let server = Node::new().start().await;
                Self { address: server.kafka().to_owned(), prefix, _server: Some(server) }
            }
        }
    }

    /// Group of the sensors' pipeline.
    fn group(&self) -> String {
        format!("{}-sensors", self.prefix)
    }

    /// A server that reads it under this name.
    fn node(&self, node_id: &str) -> Node {
        let node = Node::new().set("kafka.bootstrap", &self.address);
        node.set("kafka.consumer_group", &self.prefix).set("node.id", node_id)
    }

    /// Somebody in the sensors' group who is no server.
    fn stranger(&self, settings: &[(&str, &str)]) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("group.id", self.group()).set("client.id", "stranger");
        config.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[TOPIC]).unwrap();
        consumer
    }
}

/// Lets a stranger take part until the group has dealt it partitions.
async fn is_dealt(stranger: &BaseConsumer) {
    wait::until("the stranger has partitions", async || {
        drop(stranger.poll(std::time::Duration::ZERO));
        let dealt = stranger.assignment().unwrap().count();
        if dealt > 0 { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
}

async fn findings(server: &Server) -> Vec<Value> {
    server.http.get("/api/v1/standing-still").await["standing_still"].as_array().unwrap().clone()
}

/// Waits until every partition that the server does not read is named with these words.
async fn names(server: &Server, words: &[&str]) {
    wait::until("who is in the group is named", async || {
        let found = findings(server).await;
        let of_sensors: Vec<_> = found.iter().filter(|finding| finding["pipeline"] == "sensors").collect();
        let text = format!("{of_sensors:?}");
        let is_named = |finding: &&Value| {
            finding["cause"] == "unassigned" && words.iter().all(|word| finding.to_string().contains(word))
        };
        if !of_sensors.is_empty() && of_sensors.iter().all(is_named) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Waits until nothing stands still, and the server is ready.
async fn recovers(server: &Server) {
    wait::until("it reads everything", async || {
        let ready = server.http.try_get("/health/ready").await?;
        is((ready["status"].clone(), findings(server).await), &(json!("ready"), Vec::new()))
    })
    .await;
}

fn log(server: &Server) -> String {
    std::fs::read_to_string(server.node().path("log")).unwrap()
}

#[actix_rt::test]
async fn a_second_server_reads_nothing_until_the_first_has_left_the_group_and_names_it() {
    let cluster = Cluster::new("second").await;
    let first = cluster.node("one").start().await;
    let second = cluster.node("two").start_unready().await;
    let other = format!("another member is in group {}, client one-sensors at 127.0.0.1", cluster.group());
    let words = [&*other, "kafka.consumer_group"];
    names(&second, &words).await;
    assert!(words.iter().all(|word| log(&second).contains(word)), "{}", log(&second));
    let source = second.http.actor("pipelines/sensors/source").await.unwrap();
    assert!(source["note"].to_string().contains(&other), "{source}");
    assert_eq!(findings(&first).await, Vec::<Value>::new(), "the first has lost nothing");
    drop(first.terminate().await);
    recovers(&second).await;
    // Of each pipeline one line when the server becomes a stand-by, and one when it takes over.
    let log = log(&second);
    let of_sensors = |words: &str| log.lines().filter(|line| line.contains(words) && line.contains("sensors")).count();
    assert_eq!((of_sensors("nothing is read until it is gone"), of_sensors("nobody else is in")), (1, 1), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("stands still"), "{log}");
}

#[actix_rt::test]
async fn of_two_servers_with_one_node_id_the_second_waits_and_the_first_may_restart() {
    let cluster = Cluster::new("namesakes").await;
    let first = cluster.node("one").start().await;
    let second = cluster.node("one").start_unready().await;
    let other = format!("another server with node.id one is in group {}, as client one-sensors at", cluster.group());
    names(&second, &[&other, "a node.id"]).await;
    let (_, node) = first.terminate().await;
    let first = node.start().await;
    recovers(&first).await;
    names(&second, &[&other, "a node.id"]).await;
}

#[actix_rt::test]
async fn a_server_whose_place_another_of_its_node_id_has_taken_names_it_and_waits() {
    let cluster = Cluster::new("fenced").await;
    let server = cluster.node("one").start().await;
    let settings = [("group.instance.id", "one-sensors"), ("partition.assignment.strategy", "cooperative-sticky")];
    let namesake = cluster.stranger(&settings);
    is_dealt(&namesake).await;
    let group = cluster.group();
    names(&server, &[&format!("another server with node.id one is in group {group}, as client ")]).await;
    let said = log(&server);
    assert!(said.contains(&format!("another server with node.id one has joined group {group}")), "{said}");
}

#[actix_rt::test]
async fn a_group_that_is_held_with_another_assignor_is_named_with_it_and_the_setting() {
    let cluster = Cluster::new("range").await;
    if outside().is_some() {
        // It makes the topic, which the stranger does not.
        drop(cluster.node("one").set("kafka.consumer_group", "maker").start().await);
    }
    let range = cluster.stranger(&[("partition.assignment.strategy", "range")]);
    is_dealt(&range).await;
    let server = cluster.node("one").start_unready().await;
    let holder = format!("group {} is held with the assignor range by client stranger at", cluster.group());
    let words = [&*holder, "kafka.consumer_group"];
    names(&server, &words).await;
    assert!(words.iter().all(|word| log(&server).contains(word)), "{}", log(&server));
    drop(range);
    recovers(&server).await;
}

#[actix_rt::test]
async fn a_stranger_who_joins_later_and_takes_partitions_is_named_until_he_leaves() {
    let cluster = Cluster::new("later").await;
    let server = cluster.node("one").start().await;
    let stranger = cluster.stranger(&[("partition.assignment.strategy", "cooperative-sticky")]);
    is_dealt(&stranger).await;
    names(&server, &[&format!("another member is in group {}, client stranger at", cluster.group())]).await;
    assert!(log(&server).contains("client stranger at"), "{}", log(&server));
    drop(stranger);
    recovers(&server).await;
}
