//! The documentation says what happens: its configurations pass `check`, its commands print what it shows, its links
//! lead somewhere.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{
    kafka::{Outgoing, Producer},
    server::{Node, Server, run},
    wait,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Folders in which the documentation keeps secrets, outside of the working folder.
const SECRETS: [&str; 2] = ["/run/secrets/", "/run/credentials/streamward.service/"];

/// Where nobody watches, curl shows its progress.
const QUIET_CURL: &str = r#"curl() { command curl --silent --show-error "$@"; }"#;

/// A fenced block of a page.
struct Block {
    page: String,
    line: usize,
    language: String,
    text: String,
}

/// Name and text of the README and of each page of `docs`.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.to_string_lossy())).filter(|name| name.ends_with(".md"));
    let mut names: Vec<String> = docs.chain(["README.md".to_owned()]).collect();
    names.sort();
    let read = |name: String| (name.clone(), fs::read_to_string(Path::new(ROOT).join(name)).unwrap());
    names.into_iter().map(read).collect()
}

fn blocks() -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    for (page, text) in pages() {
        let mut open: Option<Block> = None;
        for (number, line) in text.lines().enumerate() {
            match (line.strip_prefix("```"), open.take()) {
                (Some(language), None) => {
                    let (page, language) = (page.clone(), language.to_owned());
                    open = Some(Block { page, line: number + 1, language, text: String::new() });
                }
                (Some(_), Some(block)) => found.push(block),
                (None, Some(mut block)) => {
                    block.text += &format!("{line}\n");
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block is not closed");
    }
    found
}

/// The block of a page that has these words.
fn block(page: &str, language: &str, words: &str) -> Block {
    let is_it = |block: &Block| block.page == page && block.language == language && block.text.contains(words);
    blocks().into_iter().find(is_it).unwrap_or_else(|| panic!("{page} has no {language} with {words}"))
}

/// A configuration as this node can use it, with the files that it names.
fn prepared(node: &Node, yaml: &str) -> String {
    fs::write(node.path("pump_reading.avsc"), &block("README.md", "json", "PumpReading").text).unwrap();
    fs::create_dir_all(node.path("secrets")).unwrap();
    let mut yaml = yaml.to_owned();
    for folder in SECRETS {
        yaml = yaml.replace(folder, "secrets/");
    }
    for rest in yaml.split("${file:").skip(1) {
        let name = rest.split('}').next().unwrap();
        fs::write(node.path(name), format!("a-secret-of-{}\n", name.replace('/', "-"))).unwrap();
    }
    yaml
}

#[test]
fn every_configuration_in_the_documentation_is_fine() {
    let is_ours = |block: &Block| {
        let is_other = ["scrape_configs", "valeu"].iter().any(|word| block.text.contains(word));
        block.language == "yaml" && !is_other
    };
    // They need certificates, and some of them a binary with TLS.
    let needs_certificates = |block: &Block| ["tls:", "ssl.", "SASL_SSL"].iter().any(|word| block.text.contains(word));
    let mut checked = Vec::new();
    for block in blocks().into_iter().filter(|block| is_ours(block) && !needs_certificates(block)) {
        let node = Node::new();
        fs::write(node.path("documented.yaml"), prepared(&node, &block.text)).unwrap();
        let (code, said, complaint) = run(&node, &["check", "--config", "documented.yaml"]);
        assert_eq!(code, Some(0), "{}:{}: {said}{complaint}", block.page, block.line);
        checked.push(block.page);
    }
    for page in ["README.md", "docs/access.md", "docs/kafka.md", "docs/operations.md", "docs/proxy.md"] {
        assert!(checked.iter().any(|name| name == page), "{page} shows no configuration: {checked:?}");
    }
}

/// Commands of a block with the output that is shown below each. A command goes on while a quote is open.
fn commands(block: &Block) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in block.text.lines() {
        let is_open = |command: &str| command.matches('\'').count() % 2 == 1 || command.ends_with('\\');
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command.to_owned(), String::new())),
            (None, Some((command, output))) if output.is_empty() && is_open(command) => {
                *command += &format!("\n{line}");
            }
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => panic!("{}:{}: output before a command: {line}", block.page, block.line),
        }
    }
    found
}

/// Whether a text is the shown one, in which `…` stands for anything.
fn is_shown(text: &str, shown: &str) -> bool {
    let mut parts = shown.trim().split('…').map(str::trim);
    let Some(mut rest) = text.trim().strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut is_open = false;
    for part in parts {
        is_open = part.is_empty();
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    is_open || rest.trim().is_empty()
}

/// Runs the commands of a block as their reader would, and compares what they print.
async fn follow(server: &Server, block: &Block) {
    let commands = commands(block);
    assert!(!commands.is_empty(), "{}:{}", block.page, block.line);
    for (command, shown) in commands.iter().filter(|(command, _)| !command.starts_with("streamward run")) {
        let here = command.replace("127.0.0.1:8000", server.http.address());
        wait::until("the documented output", async || {
            let mut shell = server.node().shell(&format!("{QUIET_CURL}\n{{ {here}\n}} 2>&1"));
            shell.env("STREAMWARD_URL", server.http.address()).env("STREAMWARD_BOOTSTRAP", server.kafka());
            let printed = String::from_utf8(shell.output().unwrap().stdout).unwrap();
            // What changes something runs once; what reads may be early.
            let is_read = !command.contains(" -d ") && !command.contains("create");
            match is_shown(&printed, shown) {
                true => Ok(()),
                false if is_read => Err(printed),
                false => panic!("{}:{}: {command}\nprints\n{printed}", block.page, block.line),
            }
        })
        .await;
    }
}

/// A server with the documented configuration.
async fn served(node: Node, yaml: &str) -> Server {
    fs::write(node.path("config.yaml"), prepared(&node, yaml)).unwrap();
    node.start().await
}

#[actix_rt::test]
async fn the_readme_s_stream_of_pumps_prints_what_it_shows() {
    let yaml = block("README.md", "yaml", "pump_minutes");
    // The second window of the page would close where its reader takes half a minute.
    let server = served(Node::new().set("streams.pumps.idle_after", "1h"), &yaml.text).await;
    fs::write(server.node().path("pumps.yaml"), &yaml.text).unwrap();
    follow(&server, &block("README.md", "console", "--config pumps.yaml")).await;
    follow(&server, &block("docs/avro.md", "console", "ignored_fields")).await;
    follow(&server, &block("docs/ready.md", "console", "/health/ready")).await;
    let broken = block("README.md", "yaml", "valeu");
    fs::write(server.node().path("broken.yaml"), &broken.text).unwrap();
    follow(&server, &block("README.md", "console", "--config broken.yaml")).await;
}

#[actix_rt::test]
async fn the_readme_s_bad_record_is_refused_and_becomes_a_dead_letter_as_shown() {
    let server = Node::new().start().await;
    follow(&server, &block("README.md", "console", "record_invalid")).await;
}

#[actix_rt::test]
async fn the_walk_with_tokens_prints_what_it_shows() {
    let server = served(Node::new(), &block("docs/access.md", "yaml", "auth:").text).await;
    follow(&server, &block("docs/access.md", "console", "/api/v1/caller")).await;
    follow(&server, &block("docs/access.md", "console", "STREAMWARD_TOKEN")).await;
}

/// Types by their words on the page, each as a field's type.
const REFUSED: [(&str, &str); 13] = [
    ("`decimal`", r#"{"type": "bytes", "logicalType": "decimal", "precision": 39, "scale": 2}"#),
    ("`date`", r#"{"type": "int", "logicalType": "date"}"#),
    ("`time-millis`", r#"{"type": "int", "logicalType": "time-millis"}"#),
    ("`time-micros`", r#"{"type": "long", "logicalType": "time-micros"}"#),
    ("`timestamp-micros`", r#"{"type": "long", "logicalType": "timestamp-micros"}"#),
    ("`timestamp-nanos`", r#"{"type": "long", "logicalType": "timestamp-nanos"}"#),
    ("`local-timestamp-*`", r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#),
    ("`bytes`", r#""bytes""#),
    ("`fixed`", r#"{"type": "fixed", "name": "F", "size": 4}"#),
    ("`array`", r#"{"type": "array", "items": "int"}"#),
    ("`map`", r#"{"type": "map", "values": "int"}"#),
    ("an optional `record`", r#"["null", {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}]"#),
    ("a union of several types", r#"["null", "string", "int"]"#),
];
const SUPPORTED: [(&str, &str); 11] = [
    ("`boolean`", r#""boolean""#),
    ("`int`", r#""int""#),
    ("`long`", r#"["long", "null"]"#),
    ("`float`", r#""float""#),
    ("`double`", r#"["null", "double"]"#),
    ("`string`", r#""string""#),
    ("uuid", r#"{"type": "string", "logicalType": "uuid"}"#),
    ("`enum`", r#"["null", {"type": "enum", "name": "E", "symbols": ["a"]}]"#),
    ("timestamp-millis", r#"["null", {"type": "long", "logicalType": "timestamp-millis"}]"#),
    ("decimal", r#"["null", {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}]"#),
    ("`record`", r#"{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}"#),
];

#[test]
fn the_types_on_the_page_of_types_are_taken_and_refused_as_it_says() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/avro.md")).unwrap();
    let (supported, refused) = page.split_once("## What is refused").unwrap();
    let refused = refused.split("\n## ").next().unwrap();
    let parse = |kind: &str| {
        let schema = format!(r#"{{"type": "record", "name": "Fact", "fields": [{{"name": "f", "type": {kind}}}]}}"#);
        streamward_core::schema::StreamSchema::parse(&schema)
    };
    for (words, kind) in SUPPORTED {
        assert!(supported.contains(words), "{words}");
        assert!(parse(kind).is_ok(), "{kind}: {:?}", parse(kind));
    }
    for (words, kind) in REFUSED {
        assert!(refused.contains(words), "{words}");
        assert!(parse(kind).is_err(), "{kind}");
    }
}

#[test]
fn links_between_pages_lead_to_files_and_headings() {
    // As GitHub makes them: lower case, without punctuation, blanks as hyphens.
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
    };
    let mut broken = Vec::new();
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let own = Path::new(ROOT).join(&page);
            let path = if file.is_empty() { own } else { own.parent().unwrap().join(file) };
            let there = fs::read_to_string(&path).unwrap_or_default();
            let headings =
                there.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
            let is_there = path.exists() && (heading.is_empty() || headings.map(anchor).any(|name| name == heading));
            if !is_there {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_page_is_in_the_index() {
    let index = fs::read_to_string(Path::new(ROOT).join("docs/README.md")).unwrap();
    let is_missing =
        |name: &String| name.strip_prefix("docs/").is_some_and(|name| !index.contains(&format!("({name})")));
    let missing: Vec<String> = pages().into_iter().map(|(name, _)| name).filter(is_missing).collect();
    assert_eq!(missing, ["docs/README.md"]);
}

#[test]
fn a_difference_from_what_is_shown_would_be_found() {
    assert!(is_shown("a 1 c 2\n", "a … c …") && is_shown("a c", "a c") && is_shown("x a", "… a"));
    assert!(!is_shown("a 1 d", "a … c") && !is_shown("a c d", "a c") && !is_shown("b a c", "a …"));
}

fn readme() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

/// What `streamward --help` prints.
fn help() -> String {
    let (code, help, complaint) = run(&Node::new(), &["--help"]);
    assert_eq!(code, Some(0), "{complaint}");
    help
}

/// Words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_readme_has_every_exit_code_that_help_names_and_no_other() {
    let (readme, help) = (readme(), help());
    let (_, table) = readme.split_once("| exit code | meaning |").unwrap();
    let rows = table.trim_start().lines().skip(1).take_while(|line| line.starts_with('|'));
    let documented: Vec<u8> = rows.map(|row| row.split('|').nth(1).unwrap().trim().parse().unwrap()).collect();
    let (_, codes) = help.split_once("Exit codes: ").unwrap();
    let first_words = codes.split(',').filter_map(|code| code.split_whitespace().next());
    let named: Vec<u8> = first_words.filter_map(|word| word.parse().ok()).collect();
    assert!(named.contains(&0) && named.contains(&70), "{codes}");
    assert_eq!(documented, named);
}

#[test]
fn the_readme_names_the_commands_that_there_are_and_those_that_are_missing() {
    let (readme, help) = (readme(), help());
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let there: BTreeSet<&str> = list.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let there: BTreeSet<&str> = there.into_iter().filter(|name| !matches!(*name, "" | "help")).collect();
    assert!(there.len() > 5, "{list}");
    let (_, section) = readme.split_once("## Commands\n").unwrap();
    let is_name = |word: &&str| word.bytes().all(|letter| letter.is_ascii_lowercase());
    let documented = quoted(section.split("each `--help`").next().unwrap()).filter(is_name);
    assert_eq!(documented.collect::<BTreeSet<_>>(), there);
    let (_, missing) = readme.split_once("- **Commands** ").unwrap();
    let missing: Vec<&str> = quoted(missing.split(": ").next().unwrap()).collect();
    assert!(missing.len() > 5, "{missing:?}");
    for name in missing {
        let (code, said, complaint) = run(&Node::new(), &[name]);
        assert!(code == Some(2) && complaint.contains("unrecognized subcommand"), "{name}: {said}{complaint}");
    }
}

#[actix_rt::test]
async fn the_page_on_dead_letters_names_every_header_that_one_has_and_no_other() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    producer.send("series-readings", &Outgoing { value: Some(b"no json"), ..Outgoing::default() });
    producer.finish();
    let headers = wait::until("the dead letter is announced", async || {
        let page = server.http.try_get("/api/v1/topics/dlq-messages/records?order=oldest").await?;
        let headers = page["records"][0]["headers"].as_array().filter(|headers| !headers.is_empty());
        headers.cloned().ok_or_else(|| page.to_string())
    })
    .await;
    let real: BTreeSet<&str> = headers.iter().map(|header| header["name"].as_str().unwrap()).collect();
    let page = fs::read_to_string(Path::new(ROOT).join("docs/dead-letters.md")).unwrap();
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let named = page.match_indices("x-dlq-").map(|(start, _)| page[start..].split(|letter| !is_part(letter)).next());
    assert_eq!(named.map(Option::unwrap).collect::<BTreeSet<_>>(), real);
}

#[actix_rt::test]
async fn the_routes_of_sensors_filter_by_every_column_and_ignore_what_is_none_as_the_pages_say() {
    let migrating = fs::read_to_string(Path::new(ROOT).join("docs/migrating.md")).unwrap();
    assert!(migrating.contains("filter by every column. A parameter that names no column is ignored there"));
    assert!(readme().contains("every column filters by its name"));
    let server = Node::new().start().await;
    for (sensor, zone, battery) in [("a", "zone_1", 90), ("b", "zone_2", 90), ("c", "zone_2", 20)] {
        let reading = serde_json::json!({
            "sensor_id": sensor, "sensor_type": "humidity", "value": 50.0, "location": zone, "anomaly": true,
            "timestamp": "2025-03-01T12:00:00Z", "metadata": { "battery_level": battery, "signal_strength": -40 },
        });
        let (status, answer) = server.http.post("/api/v1/streams/sensors/records", &reading).await;
        assert_eq!(status, 202, "{answer}");
    }
    wait::until("all are stored", async || wait::is(server.database().count("sensor_readings").await, &3)).await;
    for (list, of_stream) in [("latest", "records"), ("anomalies", "anomalies")] {
        for (query, wanted) in [
            ("", &["a", "b", "c"][..]),
            ("location=zone_1", &["a"]),
            ("location=zone_2&battery_level=20", &["c"]),
            ("location=zone_2&no_such_column=1", &["b", "c"]),
            ("location=nowhere", &[]),
        ] {
            let shown = async |path: &str, key: &str| {
                let page = server.http.get(path).await;
                let rows = page[key].as_array().unwrap_or_else(|| panic!("{path}: {page}"));
                let mut names: Vec<String> =
                    rows.iter().map(|row| row["sensor_id"].as_str().unwrap().to_owned()).collect();
                names.sort();
                names
            };
            let key = if list == "latest" { "readings" } else { "anomalies" };
            assert_eq!(shown(&format!("/api/v1/sensors/{list}?{query}"), key).await, wanted, "{list}?{query}");
            let path = format!("/api/v1/streams/sensors/{list}?{query}");
            if query.contains("no_such_column") {
                let (status, answer) = server.http.ask("GET", &path, None).await;
                assert_eq!(status, 422, "{path}: {answer}");
            } else {
                assert_eq!(shown(&path, of_stream).await, wanted, "{path}");
            }
        }
    }
}
