//! `streamward topics`: the broker's topics and their records, through the REST API of a running server.

mod tail;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    Exit, Failure,
    client::{Method, Server, segment},
    table::{plain, table},
};

/// How long a change of a topic may take: a thousand partitions are made in seconds, on a slow disk in more.
const CHANGES_WITHIN: Duration = Duration::from_secs(70);

/// List, describe, create, alter, delete and tail topics.
#[derive(Debug, Args)]
#[command(
    long_about = "Works on the broker of a running server, the embedded one and Apache Kafka alike. Reading commits no \
                  offset and joins no group.",
    after_help = "Examples:\n  streamward topics list\n  streamward topics describe sensor-readings\n  \
                  streamward topics create orders --partitions 3 --config retention.ms=86400000\n  \
                  streamward topics tail sensor-readings --from -5 --follow"
)]
pub struct TopicsArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    server: Server,
    /// Print the result as JSON; for tail one record a line.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Topics with partitions, records, bytes, clean-up policy and who uses them.
    #[command(after_help = "Example:\n  streamward topics list --json")]
    List,
    /// Partitions, own settings and consumer groups of a topic.
    #[command(after_help = "Example:\n  streamward topics describe sensor-readings")]
    Describe(Name),
    /// Create a topic.
    #[command(
        after_help = "Example:\n  streamward topics create orders --partitions 3 --config cleanup.policy=compact"
    )]
    Create(CreateArgs),
    /// Add partitions, set settings or take them back to their defaults.
    #[command(
        after_help = "Example:\n  streamward topics alter orders --partitions 6 --config retention.ms=1000 --default cleanup.policy"
    )]
    Alter(AlterArgs),
    /// Delete a topic with all its records.
    #[command(after_help = "Example:\n  streamward topics delete orders")]
    Delete(DeleteArgs),
    /// Show records, decoded, oldest first.
    #[command(
        after_help = "Examples:\n  streamward topics tail orders\n  streamward topics tail orders --from earliest --key o-17\n  \
                      streamward topics tail orders --from 2026-01-01T08:00:00Z --contains refund --json\n  \
                      streamward topics tail orders --from latest --follow"
    )]
    Tail(tail::TailArgs),
}

#[derive(Debug, Args)]
struct Name {
    /// Name of the topic.
    topic: String,
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    name: Name,
    /// How many partitions. Without it as many as the configuration says, for a topic that it names, else 1.
    #[arg(long)]
    partitions: Option<u32>,
    /// A setting of the topic; repeatable. A topic of the configuration has its other settings from there.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = setting)]
    configs: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[group(id = "changes", required = true, multiple = true, args = ["partitions", "configs", "defaults"])]
struct AlterArgs {
    #[command(flatten)]
    name: Name,
    /// How many partitions in all; they only grow.
    #[arg(long)]
    partitions: Option<u32>,
    /// A setting of the topic; repeatable.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = setting)]
    configs: Vec<(String, String)>,
    /// A setting to take back to the broker's default; repeatable.
    #[arg(long = "default", value_name = "NAME")]
    defaults: Vec<String>,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    #[command(flatten)]
    name: Name,
    /// Also one that a stream or Streamward itself uses.
    #[arg(long)]
    force: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub fn topics(args: &TopicsArgs) -> Result<Exit, Failure> {
    actix::System::new().block_on(async {
        match &args.what {
            What::List => args.list().await,
            What::Describe(name) => args.print(&args.server.get(&path(&name.topic)).await?, described),
            What::Create(create) => args.create(create).await,
            What::Alter(alter) => args.alter(alter).await,
            What::Delete(delete) => args.delete(delete).await,
            What::Tail(tail) => tail.run(&args.server, args.json).await,
        }
    })
}

fn path(topic: &str) -> String {
    format!("/api/v1/topics/{}", segment(topic))
}

impl TopicsArgs {
    /// Prints a result, as JSON or as the lines made of it.
    fn print(&self, result: &Value, lines: impl FnOnce(&Value) -> String) -> Result<Exit, Failure> {
        let text = if self.json { format!("{result:#}") } else { lines(result) };
        super::say_line(format_args!("{}", text.trim_end()))?;
        Ok(Exit::Done)
    }

    async fn list(&self) -> Result<Exit, Failure> {
        let mut topics = Vec::new();
        let mut next = String::new();
        loop {
            let mut page = self.server.get(&format!("/api/v1/topics?limit=1000{next}")).await?;
            topics.extend(page["topics"].as_array_mut().map(std::mem::take).unwrap_or_default());
            match page["next"].as_str() {
                Some(cursor) => next = format!("&cursor={}", segment(cursor)),
                None => break,
            }
        }
        self.print(&topics.into(), |topics| listed(topics.as_array().map_or(&[], Vec::as_slice)))
    }

    async fn create(&self, args: &CreateArgs) -> Result<Exit, Failure> {
        let configs: Map<String, Value> = args.configs.iter().map(|(n, v)| (n.clone(), v.as_str().into())).collect();
        let body = json!({ "name": args.name.topic, "partitions": args.partitions, "configs": configs });
        let created = self.server.call_within(CHANGES_WITHIN, (Method::POST, "/api/v1/topics"), Some(&body)).await?;
        self.print(&created, |made| format!("created {} with {}", args.name.topic, partitions(&made["partitions"])))
    }

    async fn alter(&self, args: &AlterArgs) -> Result<Exit, Failure> {
        let mut configs: Map<String, Value> =
            args.configs.iter().map(|(n, v)| (n.clone(), v.as_str().into())).collect();
        configs.extend(args.defaults.iter().map(|name| (name.clone(), Value::Null)));
        let mut body = json!({ "configs": configs });
        if let Some(partitions) = args.partitions {
            body["partitions"] = partitions.into();
        }
        let altered =
            self.server.call_within(CHANGES_WITHIN, (Method::PATCH, &path(&args.name.topic)), Some(&body)).await?;
        self.print(&altered, described)
    }

    async fn delete(&self, args: &DeleteArgs) -> Result<Exit, Failure> {
        let path = format!("{}?force={}", path(&args.name.topic), args.force);
        self.server.call_within(CHANGES_WITHIN, (Method::DELETE, &path), None).await?;
        self.print(&json!({ "deleted": args.name.topic }), |_| format!("deleted {}", args.name.topic))
    }
}

fn partitions(number: &Value) -> String {
    if *number == 1 { "1 partition".to_owned() } else { format!("{number} partitions") }
}

fn rows(items: &Value, fields: &[&str]) -> Vec<Vec<String>> {
    let row = |item: &Value| fields.iter().map(|field| plain(&item[*field])).collect();
    items.as_array().into_iter().flatten().map(row).collect()
}

fn listed(topics: &[Value]) -> String {
    if topics.is_empty() {
        return "no topics".to_owned();
    }
    let row = |topic: &Value| {
        let partitions = topic["partitions"].as_array().map_or(0, Vec::len).to_string();
        let rest = ["records", "bytes", "cleanup_policy", "used_by"].map(|field| plain(&topic[field]));
        [plain(&topic["topic"]), partitions].into_iter().chain(rest).collect()
    };
    let rows: Vec<Vec<String>> = topics.iter().map(row).collect();
    table(&["topic", "partitions", "records", "bytes", "policy", "used by"], &rows)
}

fn described(topic: &Value) -> String {
    let mut text = format!("topic: {}\n", plain(&topic["topic"]));
    for (name, field) in [("used by", "used_by"), ("records", "records"), ("bytes", "bytes")] {
        if !topic[field].is_null() {
            text += &format!("{name}: {}\n", plain(&topic[field]));
        }
    }
    let partitions = ["partition", "log_start", "log_end", "records", "leader", "replicas", "in_sync"];
    text += &format!("\n{}", table(&partitions, &rows(&topic["partitions"], &partitions)));
    let own = topic["configs"].as_array().into_iter().flatten().filter(|config| config["own"] == true);
    let own = rows(&own.cloned().collect(), &["name", "value"]);
    if !own.is_empty() {
        text += &format!("\n{}", table(&["own setting", "value"], &own));
    }
    let group = |group: &Value| {
        let members = group["members"].as_array().map_or(0, Vec::len).to_string();
        vec![plain(&group["group"]), plain(&group["state"]), members, plain(&group["lag"])]
    };
    let groups: Vec<Vec<String>> = topic["groups"].as_array().into_iter().flatten().map(group).collect();
    if !groups.is_empty() {
        text += &format!("\n{}", table(&["group", "state", "members", "lag"], &groups));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_shown_in_columns() {
        let topic = json!({"topic": "orders", "partitions": [{}, {}], "records": 12, "bytes": null,
                           "cleanup_policy": "delete", "used_by": "stream shop"});
        let wanted = "TOPIC   PARTITIONS  RECORDS  BYTES  POLICY  USED BY\n\
                      orders  2           12       -      delete  stream shop\n";
        assert_eq!(listed(&[topic]), wanted);
        assert_eq!(listed(&[]), "no topics");
    }

    #[test]
    fn a_topic_is_shown_with_its_own_settings_and_groups() {
        let partition = json!({"partition": 0, "log_start": 1, "log_end": 4, "records": 3, "leader": 1, "replicas": [1], "in_sync": [1]});
        let topic = json!({"topic": "orders", "records": 3, "partitions": [partition],
            "configs": [{"name": "a", "value": "1", "own": true}, {"name": "b", "value": "2", "own": false}],
            "groups": [{"group": "g", "state": "Empty", "members": [], "lag": 2}]});
        let wanted = "topic: orders\nrecords: 3\n\n\
                      PARTITION  LOG_START  LOG_END  RECORDS  LEADER  REPLICAS  IN_SYNC\n\
                      0          1          4        3        1       [1]       [1]\n\n\
                      OWN SETTING  VALUE\na            1\n\n\
                      GROUP  STATE  MEMBERS  LAG\ng      Empty  0        2\n";
        assert_eq!(described(&topic), wanted);
    }
}
