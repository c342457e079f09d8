//! `streamward tree`: the supervision tree in a terminal.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde_json::Value;

use super::client::Server;

/// Show the supervision tree of a running server.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward tree --watch")]
pub struct TreeArgs {
    #[command(flatten)]
    server: Server,
    /// Show it again every second until interrupted.
    #[arg(long)]
    watch: bool,
    /// Print the JSON of the API instead.
    #[arg(long)]
    json: bool,
}

pub fn tree(args: &TreeArgs) -> Result<ExitCode, String> {
    actix::System::new().block_on(async {
        loop {
            let tree = args.server.get("/api/v1/supervision/tree").await?;
            let text = if args.json { format!("{tree:#}\n") } else { render(&tree) };
            if args.watch {
                super::say(format_args!("\x1b[2J\x1b[H{text}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            } else {
                super::say(format_args!("{text}"));
                return Ok(ExitCode::SUCCESS);
            }
        }
    })
}

/// One line per actor: branch, name, state, restarts, queue, what it does.
fn render(tree: &Value) -> String {
    let mut lines = Vec::new();
    walk(tree, "", "", &mut lines);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, rest): &(String, String)| {
        let pad = " ".repeat(width - name.chars().count());
        format!("{name}{pad}  {rest}\n")
    };
    lines.iter().map(line).collect()
}

fn walk(node: &Value, branch: &str, below: &str, lines: &mut Vec<(String, String)>) {
    let text = |key: &str| node[key].as_str().unwrap_or_default();
    let path = text("path");
    let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("root");
    let mut rest = format!("{:<11} gen {:<3} restarts {:<3}", text("state"), node["generation"], node["restarts"]);
    if let (Some(depth), Some(capacity)) = (node["inbox"]["depth"].as_u64(), node["inbox"]["capacity"].as_u64()) {
        rest.push_str(&format!(" inbox {depth}/{capacity}"));
    }
    if let Some(processed) = node["processed"].as_u64().filter(|processed| *processed > 0) {
        rest.push_str(&format!(" processed {processed}"));
    }
    if let Some(label) = node["in_hand"]["label"].as_str() {
        rest.push_str(&format!(" in hand: {label}"));
    }
    if let Some(reason) = node["last_exit"]["reason"].as_str() {
        let message = node["last_exit"]["message"].as_str().unwrap_or_default();
        rest.push_str(&format!(" last exit: {reason} {message}"));
    }
    lines.push((format!("{branch}{name}"), rest.trim_end().to_owned()));
    let children = node["children"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (branch, indent) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        walk(child, &format!("{below}{branch}"), &format!("{below}{indent}"), lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_drawn_with_one_line_per_actor() {
        let tree = serde_json::json!({"path": "", "state": "running", "generation": 1, "restarts": 0, "children": [
            {"path": "edge", "state": "running", "generation": 1, "restarts": 2, "children": []},
            {"path": "pipelines/sensors", "state": "failed", "generation": 4, "restarts": 3,
             "last_exit": {"reason": "panic", "message": "boom"}, "children": []},
        ]});
        let text = render(&tree);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("├─ edge"), "{text}");
        assert!(text.contains("└─ sensors") && text.contains("last exit: panic boom"), "{text}");
    }
}
