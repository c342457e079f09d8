//! `streamward tree`: the supervision tree in a terminal.

use std::{fmt, time::Duration};

use clap::Args;
use console::{Style, Term, pad_str, style, truncate_str};
use serde_json::Value;

use super::{
    Exit, Failure,
    client::{AskError, Server},
    interrupt::Interrupts,
};
use crate::clock::now_ms;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An exit younger than this is set off by colour.
const RECENT_MS: i64 = 60_000;
const HEADS: [&str; 7] = ["ACTOR", "STATE", "RESTARTS", "INBOX", "PER S", "P50/P99", "NOW"];

/// Show the supervision tree of a running server.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  streamward tree --watch\n\nP50/P99: time with one message in hand, over the last one to two minutes."
)]
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

pub fn tree(args: &TreeArgs) -> Result<Exit, Failure> {
    actix::System::new().block_on(async {
        if args.watch {
            return watch(args).await;
        }
        let tree = args.server.get("/api/v1/supervision/tree").await?;
        super::say(format_args!("{}", text(args, &tree)))?;
        Ok(Exit::Done)
    })
}

fn text(args: &TreeArgs, tree: &Value) -> String {
    if args.json { format!("{tree:#}\n") } else { render(tree, now_ms()) }
}

/// Draws the tree in place until somebody interrupts, and says so while the server does not answer.
async fn watch(args: &TreeArgs) -> Result<Exit, Failure> {
    let mut seen = Watched::default();
    let screen = Screen::open();
    let watched = Interrupts::listen()?.unless(draw_again(args, &screen, &mut seen)).await;
    drop(screen);
    if let Some(refused) = watched {
        return Err(refused);
    }
    super::remark(format_args!("interrupted: {seen}"));
    Ok(Exit::Interrupted)
}

/// Ends where the server refuses, or nobody looks any more.
async fn draw_again(args: &TreeArgs, screen: &Screen, seen: &mut Watched) -> Failure {
    loop {
        let shown = match args.server.get("/api/v1/supervision/tree").await {
            Ok(tree) => {
                seen.add(&tree);
                text(args, &tree)
            }
            Err(AskError::Passing(reason)) => format!("{reason}\n"),
            Err(AskError::Final(reason)) => return reason,
        };
        if let Err(ended) = screen.draw(&shown) {
            return ended;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a watch has seen of the tree.
#[derive(Debug, Default, PartialEq, Eq)]
struct Watched {
    frames: u64,
    actors: u64,
    not_running: u64,
    restarts: u64,
}

impl Watched {
    fn add(&mut self, tree: &Value) {
        *self = Self { frames: self.frames + 1, ..Self::default() };
        self.count(tree);
    }

    fn count(&mut self, node: &Value) {
        self.actors += 1;
        self.not_running += u64::from(node["state"] != "running");
        self.restarts += node["restarts"].as_u64().unwrap_or_default();
        node["children"].as_array().into_iter().flatten().for_each(|child| self.count(child));
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, actors, not_running, restarts } = self;
        match frames {
            0 => f.write_str("the server did not answer"),
            _ => write!(
                f,
                "{frames} frames shown; at last {actors} actors and supervisors, {not_running} not running, {restarts} restarts"
            ),
        }
    }
}

/// A terminal that is drawn over in place; plain frames, with an empty line between them, where there is none.
struct Screen(Term);

impl Screen {
    fn open() -> Self {
        let term = Term::stdout();
        if term.is_term() {
            // A terminal that cannot do this shows the same text, less smoothly.
            let _unsupported = term.hide_cursor().and_then(|()| term.clear_screen());
        }
        Self(term)
    }

    /// Overwrites line by line, so that nothing flickers.
    ///
    /// # Errors
    /// Nobody reads it, or it cannot be written.
    fn draw(&self, text: &str) -> Result<(), Failure> {
        if !self.0.is_term() {
            return super::say(format_args!("{text}\n"))?.or_end();
        }
        let (height, width) = self.0.size();
        let room = usize::from(height).saturating_sub(1);
        let lines = text.lines().take(room).map(|line| truncate_str(line, usize::from(width), "…"));
        let frame: String = lines.map(|line| format!("{line}\x1b[K\n")).collect();
        super::say(format_args!("\x1b[H{frame}\x1b[J"))?.or_end()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.0.is_term() {
            let _unsupported = self.0.show_cursor();
        }
    }
}

/// One line per actor, in columns.
fn render(tree: &Value, now_ms: i64) -> String {
    let mut rows = vec![HEADS.map(|head| style(head).dim().to_string())];
    walk(tree, ("", ""), now_ms, &mut rows);
    let width = |column: usize| rows.iter().map(|row| console::measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let line = |row: &[String; HEADS.len()]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| pad_str(cell, *width, console::Alignment::Left, None));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn walk(node: &Value, (branch, below): (&str, &str), now_ms: i64, rows: &mut Vec<[String; HEADS.len()]>) {
    let path = node["path"].as_str().unwrap_or_default();
    let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("root");
    rows.push([
        format!("{branch}{name}"),
        state(node),
        restarts(node),
        inbox(node),
        node["rate_per_s"].as_f64().filter(|rate| *rate >= 0.5).map_or_else(String::new, |rate| format!("{rate:.0}")),
        times(&node["step_us"]),
        doing(node, now_ms),
    ]);
    let children = node["children"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (branch, indent) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        walk(child, (&format!("{below}{branch}"), &format!("{below}{indent}")), now_ms, rows);
    }
}

fn state(node: &Value) -> String {
    let state = node["state"].as_str().unwrap_or_default();
    let colour = match state {
        "running" => Style::new().green(),
        "failed" => Style::new().red(),
        "stopped" => Style::new().dim(),
        _ => Style::new().yellow(),
    };
    colour.apply_to(state.replace('_', " ")).to_string()
}

/// Restarts of the actor; for a supervisor how much of its window is used.
fn restarts(node: &Value) -> String {
    let all = node["restarts"].as_u64().unwrap_or_default();
    let window = node["intensity"]["max_restarts"].as_u64().zip(node["restarts_in_window"].as_u64());
    let text = match window {
        Some((most, used)) => {
            format!("{all} ({used}/{most} in {})", node["intensity"]["within"].as_str().unwrap_or("?"))
        }
        None => all.to_string(),
    };
    if all > 0 || window.is_some_and(|(_, used)| used > 0) { style(text).yellow().to_string() } else { text }
}

fn inbox(node: &Value) -> String {
    let inbox = &node["inbox"];
    let sizes = inbox["depth"].as_u64().zip(inbox["capacity"].as_u64());
    sizes.map_or_else(String::new, |(depth, capacity)| format!("{depth}/{capacity}"))
}

fn times(figures: &Value) -> String {
    let quantiles = figures["p50"].as_u64().zip(figures["p99"].as_u64());
    quantiles.map_or_else(String::new, |(p50, p99)| format!("{}/{}", micros(p50), micros(p99)))
}

fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{:.1}ms", micros as f64 / 1e3),
        _ => format!("{:.1}s", micros as f64 / 1e6),
    }
}

fn millis(millis: u64) -> String {
    micros(millis.saturating_mul(1_000))
}

/// What it works on, waits for, or is waited for with; then what is wrong or was.
fn doing(node: &Value, now_ms: i64) -> String {
    let mut parts = Vec::new();
    if let Some(due) = node["restart_in_ms"].as_u64() {
        parts.push(style(format!("restarts in {}", millis(due))).yellow().to_string());
    }
    let for_ms = |value: &Value| millis(value["for_ms"].as_u64().unwrap_or_default());
    if let Some(label) = node["in_hand"]["label"].as_str() {
        parts.push(format!("{label} in hand for {}", for_ms(&node["in_hand"])));
    }
    let wait = &node["waiting_on"];
    if let Some(on) = wait["on"].as_str() {
        let whom = wait["actor"].as_str().map_or_else(String::new, |actor| format!(" ({actor})"));
        parts.push(format!("waits for {on}{whom}"));
    }
    if let Some(note) = node["note"].as_str() {
        parts.push(style(note).yellow().to_string());
    }
    if let Some(zombies) = node["zombies"].as_u64().filter(|zombies| *zombies > 0) {
        parts.push(style(format!("{zombies} zombies")).red().to_string());
    }
    parts.extend(last_exit(&node["last_exit"], now_ms));
    parts.join(" · ")
}

fn last_exit(exit: &Value, now_ms: i64) -> Option<String> {
    let reason = exit["reason"].as_str()?;
    let age_ms = now_ms - exit["at"].as_i64().unwrap_or(now_ms);
    let drill = if exit["injected"] == true { ", a drill" } else { "" };
    let culprit = match &exit["culprit"] {
        Value::Null => String::new(),
        culprit => format!(
            " at {}/{}@{}",
            culprit["topic"].as_str().unwrap_or_default(),
            culprit["partition"],
            culprit["offset"]
        ),
    };
    let message = exit["message"].as_str().filter(|message| !message.is_empty()).map(|message| format!(": {message}"));
    let ago = match age_ms / 1_000 {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3_600),
    };
    let text = format!("{} {ago} ago{drill}{culprit}{}", reason.replace('_', " "), message.unwrap_or_default());
    let text = text.lines().next().unwrap_or_default().to_owned();
    Some(if age_ms < RECENT_MS { style(text).red().to_string() } else { style(text).dim().to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_watch_tells_how_the_tree_was_at_last() {
        let mut seen = Watched::default();
        assert_eq!(seen.to_string(), "the server did not answer");
        let child = json!({"path": "a", "state": "backing_off", "restarts": 2, "children": []});
        seen.add(&json!({"path": "/", "state": "running", "restarts": 9, "children": [child]}));
        seen.add(&json!({"path": "/", "state": "running", "restarts": 0, "children": [child]}));
        assert_eq!(seen, Watched { frames: 2, actors: 2, not_running: 1, restarts: 2 });
    }

    #[test]
    fn the_tree_is_drawn_with_one_line_per_actor() {
        let tree = json!({"path": "/", "state": "running", "restarts": 0, "restarts_in_window": 3,
            "intensity": {"max_restarts": 10, "within": "1m"}, "children": [
            {"path": "edge", "state": "backing_off", "restarts": 2, "restart_in_ms": 1_500, "children": []},
            {"path": "pipelines/sensors", "state": "running", "restarts": 3, "rate_per_s": 1234.5,
             "inbox": {"depth": 3, "capacity": 64}, "step_us": {"p50": 250, "p99": 12_000, "count": 9},
             "in_hand": {"label": "500 records", "for_ms": 3},
             "waiting_on": {"on": "sink", "actor": "pipelines/sensors/sink", "for_ms": 2},
             "last_exit": {"reason": "no_progress", "message": "boom", "at": 0, "injected": true,
                           "culprit": {"topic": "t", "partition": 1, "offset": 7}}, "children": []},
        ]});
        let drawn = render(&tree, 61_000);
        let text = console::strip_ansi_codes(&drawn);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("root") && lines[1].contains("0 (3/10 in 1m)"), "{text}");
        assert!(lines[2].contains("├─ edge") && lines[2].contains("backing off"), "{text}");
        assert!(lines[2].ends_with("restarts in 1.5s"), "{text}");
        let expected = "3/64   1234   250µs/12.0ms  500 records in hand for 3.0ms · \
                        waits for sink (pipelines/sensors/sink) · no progress 1m ago, a drill at t/1@7: boom";
        assert!(lines[3].contains("└─ sensors") && lines[3].ends_with(expected), "{text}");
    }
}
