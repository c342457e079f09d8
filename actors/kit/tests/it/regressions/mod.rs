//! Bugs and gaps of other actor runtimes, each as a test of what must hold here.
//!
//! The doc comment of a test names the runtime and, where there is one, the issue. The table of all cases is in the
//! kit's README, together with those that older tests cover and those that are decisions alone
//! (`src/core/regressions.rs`).

mod fairness;
mod messages;
mod restarts;

use std::{collections::HashSet, fs, path::Path};

/// Names of the test functions in all Rust files at and below `folder`.
fn tests_below(folder: &Path, found: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the kit") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a text");
            let after_fn = text.lines().filter_map(|line| line.trim().split_once("fn ")).map(|(_, rest)| rest);
            found.extend(after_fn.filter_map(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn the_readme_names_only_tests_that_exist() {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(kit.join("README.md")).unwrap();
    let (_, table) = readme.split_once("## Cases of other runtimes").expect("the section of the cases");
    let named: Vec<&str> = table.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2).collect();
    assert!(named.len() > 40, "{named:?}");
    let mut found = HashSet::new();
    ["src", "tests"].iter().for_each(|folder| tests_below(&kit.join(folder), &mut found));
    let missing: Vec<_> = named.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_readme_shows_the_example_that_the_docs_test() {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [readme, docs] = ["README.md", "src/lib.rs"].map(|file| fs::read_to_string(kit.join(file)).unwrap());
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let docs: String =
        docs.lines().filter_map(|line| line.strip_prefix("//!")).map(|line| format!("{line}\n")).collect();
    let tested: String = shown.lines().map(|line| format!("{}\n", format!(" {line}").trim_end())).collect();
    assert!(docs.contains(&tested), "{tested}");
}
