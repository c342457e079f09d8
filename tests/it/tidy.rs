//! Rules about the sources themselves: sizes, layers, what must not be there.

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MAX_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;
/// Folders that hold nothing of ours.
const SKIPPED: [&str; 7] = ["target", "data", "vendor", "node_modules", ".git", "proptest-regressions", "examples"];
const TEXTS: [&str; 11] = ["rs", "js", "mjs", "css", "html", "md", "toml", "yaml", "yml", "json", "sh"];

/// Files below a folder of the repository, with their path from its root and their text.
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&Path::new(ROOT).join(folder), endings, &mut found);
    assert!(!found.is_empty(), "no {endings:?} in {folder}");
    let name = |path: &PathBuf| path.strip_prefix(ROOT).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&&*name) {
                collect(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.rsplit_once('.').is_some_and(|(_, last)| last == *ending)) {
            found.push(path);
        }
    }
}

/// A Rust file without its comments.
fn code(text: &str) -> String {
    let without_comment = |line: &str| match line.find("//") {
        Some(0) => String::new(),
        Some(place) if !line[..place].ends_with(':') => line[..place].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| without_comment(line) + "\n").collect()
}

/// Whether the code has this path or name as a whole.
fn mentions(code: &str, name: &str) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(name).any(|(start, _)| {
        let before = start.checked_sub(1).and_then(|place| code.as_bytes().get(place));
        !is_part(before) && !is_part(code.as_bytes().get(start + name.len()))
    })
}

/// Complaints about each Rust file of `folders` (without `except`) that mentions one of `names`.
fn intruders(folders: &[&str], except: &str, names: &[&str]) -> Vec<String> {
    let files = folders.iter().flat_map(|folder| files(folder, &["rs"]));
    let mut complaints = Vec::new();
    for (file, text) in files.filter(|(file, _)| except.is_empty() || !file.starts_with(except)) {
        let code = code(&text);
        complaints.extend(names.iter().filter(|name| mentions(&code, name)).map(|name| format!("{file}: {name}")));
    }
    complaints
}

const NONE: [String; 0] = [];
const SOURCES: [&str; 5] = ["src", "actors/core/src", "actors/kit/src", "actors/pipeline/src", "actors/broker/src"];

#[test]
fn no_file_is_longer_than_500_lines() {
    let too_long = files("", &["rs", "js", "mjs", "css", "md"]).into_iter().filter_map(|(file, text)| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{file}: {lines} lines"))
    });
    assert_eq!(too_long.collect::<Vec<_>>(), NONE);
}

/// Functions of a formatted file: name and number of lines.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let declaration = line.trim_start();
        let indent = &line[..line.len() - declaration.len()];
        let words = declaration.split('(').next().unwrap_or_default();
        let is_function = words.split_whitespace().any(|word| word == "fn") && !declaration.starts_with("//");
        if !is_function || declaration.ends_with(';') || declaration.ends_with('}') {
            continue;
        }
        // A trait's function may have a signature of several lines and no body.
        let signature_end = lines[start..].iter().find(|line| line.ends_with('{') || line.ends_with(';'));
        if signature_end.is_some_and(|line| line.ends_with(';')) {
            continue;
        }
        let end = lines[start..].iter().position(|line| line.strip_prefix(indent) == Some("}"));
        found.push((words, end.map_or(0, |end| end + 1)));
    }
    found
}

#[test]
fn no_function_is_longer_than_70_lines() {
    let mut too_long = Vec::new();
    for (file, text) in files("", &["rs"]) {
        let long = functions(&text).into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION_LINES);
        too_long.extend(long.map(|(name, lines)| format!("{file}: {name}: {lines} lines")));
    }
    assert_eq!(too_long, NONE);
}

#[test]
fn every_test_runs() {
    let attribute = ["#[", "ignore"].concat();
    let ignored = files("", &["rs"]).into_iter().filter(|(_, text)| text.contains(&attribute)).map(|(file, _)| file);
    assert_eq!(ignored.collect::<Vec<_>>(), NONE);
}

#[test]
fn core_reads_no_clock_file_or_socket() {
    let names = ["actix", "tokio", "fs", "net", "SystemTime", "Instant::now", "Timestamp::now", "rand"];
    assert_eq!(intruders(&["actors/core/src"], "", &names), NONE);
}

#[test]
fn each_client_library_is_used_in_its_adapter_alone() {
    assert_eq!(intruders(&SOURCES, "src/adapters/kafka", &["use rdkafka", "rdkafka::"]), NONE);
    assert_eq!(intruders(&SOURCES, "src/adapters", &["use sqlx", "sqlx::", "rusqlite"]), NONE);
    assert_eq!(intruders(&["src/adapters/postgres"], "", &["rusqlite", "sqlx::sqlite"]), NONE);
    assert_eq!(intruders(&["src/adapters/sqlite"], "", &["sqlx::postgres"]), NONE);
    assert_eq!(intruders(&["src/adapters/kafka", "src/adapters/registry"], "", &["sqlx", "rusqlite"]), NONE);
}

#[test]
fn http_gets_its_data_through_ports() {
    assert_eq!(intruders(&["src/http"], "", &["adapters", "sql", "kafka"]), NONE);
}

#[test]
fn the_broker_and_the_kit_know_nothing_of_the_rest() {
    let rest = ["streamward", "streamward_core", "streamward_pipeline"];
    assert_eq!(intruders(&["actors/broker/src"], "", &[&rest[..], &["streamward_kit"]].concat()), NONE);
    assert_eq!(intruders(&["actors/kit/src"], "", &[&rest[..], &["streamward_broker"]].concat()), NONE);
}

#[test]
fn no_path_of_one_machine_is_in_the_repository() {
    let parent = Path::new(ROOT).parent().unwrap().display().to_string();
    let mut paths = vec!["/home".to_owned() + "/", "/Users".to_owned() + "/", "/tmp".to_owned() + "/"];
    paths.extend((parent.len() > 1).then(|| parent + "/"));
    let mut found = Vec::new();
    for (file, text) in files("", &TEXTS) {
        let there = paths.iter().filter(|path| text.contains(*path));
        found.extend(there.map(|path| format!("{file}: {path}")));
    }
    assert_eq!(found, NONE);
}

#[test]
fn the_readme_shows_how_to_run_and_how_to_test() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for command in ["cargo run --release", "cargo test"] {
        assert!(readme.contains(command), "{command}");
    }
}

#[test]
fn a_long_function_would_be_found() {
    let body = "    let x = 1;\n".repeat(MAX_FUNCTION_LINES);
    let text =
        format!("impl X {{\n    pub async fn short(\n        &self,\n    ) {{\n    }}\n}}\nfn long() {{\n{body}}}\n");
    assert_eq!(functions(&text), [("pub async fn short", 4), ("fn long", MAX_FUNCTION_LINES + 2)]);
}

#[test]
fn an_intruder_would_be_found() {
    assert!(mentions("use std::{fs, io};", "fs") && mentions("tokio::spawn", "tokio"));
    assert!(!mentions("offs::x", "fs") && !mentions(&code("let a = 1; // fs::read"), "fs"));
    assert!(mentions(&code("let url = \"http://x\"; fs::read(url)"), "fs"));
}

/// Features that the build of the container image asks for, with all that they bring.
fn features_of_the_image() -> Vec<String> {
    let read = |file: &str| fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
    let (dockerfile, manifest) = (read("Dockerfile"), read("Cargo.toml"));
    let build = dockerfile.lines().find(|line| line.contains("cargo build")).unwrap();
    let (_, asked) = build.split_once("--features ").unwrap();
    let asked = asked.split_whitespace().next().unwrap();
    let mut features: Vec<String> = asked.split(',').map(str::to_owned).collect();
    let mut next = 0;
    while let Some(feature) = features.get(next).cloned() {
        next += 1;
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{feature} = [")));
        let brought = line.into_iter().flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned);
        features.extend(brought);
    }
    features
}

#[test]
fn the_container_image_has_tls_and_scram() {
    let features = features_of_the_image();
    assert!(features.iter().any(|feature| feature == "tls"), "{features:?}");
    assert!(features.iter().any(|feature| feature == "rdkafka/ssl-vendored"), "{features:?}");
}
