//! `streamward topics tail`: pages of records, one after the other, oldest first.

use std::{cell::Cell, convert::Infallible, str::FromStr, time::Duration};

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    super::{remark, say_line},
    path,
};
use crate::cli::{
    Exit, Failure,
    client::{AskError, Server, segment},
    interrupt::Interrupts,
    table::{counted, plain},
};

/// Records asked for at once.
const PAGE: usize = 200;
/// Most of the last records that can be asked for.
const MAX_LAST: usize = 10_000;
/// Wait before the end of the log is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct TailArgs {
    /// Name of the topic.
    topic: String,
    /// Where to begin: earliest, latest, a time in RFC 3339, or -N for the last N records.
    #[arg(long, default_value = "-10", allow_hyphen_values = true, value_name = "earliest|latest|-N|TIME")]
    from: From,
    /// One partition alone.
    #[arg(long)]
    partition: Option<u32>,
    /// Only records with this key.
    #[arg(long)]
    key: Option<String>,
    /// Only records whose key, value or a header's value contains this text.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Go on with what is written later, until interrupted.
    #[arg(long, short)]
    follow: bool,
}

/// Where a tail begins.
#[derive(Debug, Clone, PartialEq)]
enum From {
    Earliest,
    Latest,
    Last(usize),
    Time(Timestamp),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match text.strip_prefix('-').map(str::parse) {
                Some(Ok(last)) if (1..=MAX_LAST).contains(&last) => Ok(Self::Last(last)),
                Some(_) => Err(format!("the last 1 to {MAX_LAST} records can be asked for")),
                None => text.parse().map(Self::Time).map_err(|_| "expected earliest, latest, -N or a time".to_owned()),
            },
        }
    }
}

impl TailArgs {
    pub async fn run(&self, server: &Server, json: bool) -> Result<Exit, Failure> {
        let shown = Cell::new(0_u64);
        let show = |record: &Value| {
            let text = if json { record.to_string() } else { line(record) };
            say_line(format_args!("{text}"))?.or_end()?;
            shown.set(shown.get() + 1);
            Ok(())
        };
        if let Some(done) = Interrupts::listen()?.unless(self.show_all(server, &show)).await {
            return done.map(|()| Exit::Done);
        }
        remark(format_args!("interrupted: {} of {} shown", counted(shown.get(), "record"), self.topic));
        Ok(Exit::Interrupted)
    }

    async fn show_all(&self, server: &Server, show: &impl Fn(&Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let cursor = match &self.from {
            From::Earliest => self.forward(server, "order=oldest", show).await?,
            From::Time(time) => self.forward(server, &format!("time={}", segment(&time.to_string())), show).await?,
            From::Latest => self.last(server, 1).await?.1,
            From::Last(count) => {
                let (records, cursor) = self.last(server, *count).await?;
                records.iter().rev().try_for_each(show)?;
                cursor
            }
        };
        if self.follow {
            self.go_on(server, cursor, show).await?;
        }
        Ok(())
    }

    /// Shows what comes behind a cursor until the server refuses or `show` fails; one that is away is said once and waited for.
    async fn go_on(
        &self,
        server: &Server,
        mut cursor: String,
        show: &impl Fn(&Value) -> Result<(), Failure>,
    ) -> Result<Infallible, Failure> {
        let mut is_away = false;
        loop {
            match self.page(server, &format!("cursor={}", segment(&cursor)), PAGE).await {
                Ok(page) => {
                    is_away = false;
                    page["records"].as_array().into_iter().flatten().try_for_each(show)?;
                    cursor = text(&page["next"])?;
                    if page["scanned"]["complete"] != true {
                        continue;
                    }
                }
                Err(AskError::Passing(reason)) => {
                    if !is_away {
                        remark(format_args!("streamward: {reason}; trying again"));
                    }
                    is_away = true;
                }
                Err(AskError::Final(reason)) => return Err(reason),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn page(&self, server: &Server, place: &str, limit: usize) -> Result<Value, AskError> {
        let mut query = format!("{}/records?limit={limit}&{place}", path(&self.topic));
        if let Some(partition) = self.partition {
            query += &format!("&partition={partition}");
        }
        for (name, text) in [("key", &self.key), ("contains", &self.contains)] {
            if let Some(text) = text {
                query += &format!("&{name}={}", segment(text));
            }
        }
        server.get(&query).await
    }

    /// Shows everything up to the present end; answers the cursor behind it.
    async fn forward(
        &self,
        server: &Server,
        place: &str,
        show: &impl Fn(&Value) -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        let mut place = place.to_owned();
        loop {
            let page = self.page(server, &place, PAGE).await?;
            page["records"].as_array().into_iter().flatten().try_for_each(show)?;
            let cursor = text(&page["next"])?;
            if page["scanned"]["complete"] == true {
                return Ok(cursor);
            }
            place = format!("cursor={}", segment(&cursor));
        }
    }

    /// The last records, newest first, and the cursor to what comes after them.
    async fn last(&self, server: &Server, count: usize) -> Result<(Vec<Value>, String), Failure> {
        let mut page = self.page(server, "order=newest", count.min(PAGE)).await?;
        let after = text(&page["previous"])?;
        let mut records = Vec::new();
        loop {
            records.extend(page["records"].as_array_mut().map(std::mem::take).unwrap_or_default());
            let next = page["next"].as_str().map(segment);
            match next.filter(|_| records.len() < count) {
                Some(next) => {
                    let wanted = (count - records.len()).min(PAGE);
                    page = self.page(server, &format!("cursor={next}"), wanted).await?;
                }
                None => return Ok((records, after)),
            }
        }
    }
}

fn text(cursor: &Value) -> Result<String, Failure> {
    let none = || Failure::refused("the server's answer has no cursor: is it older?");
    cursor.as_str().map(str::to_owned).ok_or_else(none)
}

/// Time, place, key and value of a record.
fn line(record: &Value) -> String {
    let place = format!("{}/{}", plain(&record["partition"]), plain(&record["offset"]));
    format!("{}  {place}  {}  {}", plain(&record["timestamp"]), content(&record["key"]), content(&record["value"]))
}

/// A key or value as it was decoded.
fn content(content: &Value) -> String {
    let data = plain(&content["data"]);
    let shown = match content["format"].as_str() {
        None => "(null)".to_owned(),
        Some("base64") => format!("base64:{data}"),
        Some("json" | "avro") => content["data"].to_string(),
        Some(_) => data,
    };
    if content["truncated"] == true { format!("{shown}… ({} bytes)", content["bytes"]) } else { shown }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_tail_begins_at_a_bound_a_time_or_some_records_back() {
        assert_eq!("earliest".parse(), Ok(From::Earliest));
        assert_eq!("latest".parse(), Ok(From::Latest));
        assert_eq!("-25".parse(), Ok(From::Last(25)));
        assert_eq!("2025-01-01T00:00:00Z".parse(), Ok(From::Time(Timestamp::from_second(1_735_689_600).unwrap())));
        for wrong in ["-0", "-x", "-10001", "soon", ""] {
            assert!(wrong.parse::<From>().is_err(), "{wrong}");
        }
    }

    /// Answers requests one after the other with these statuses and bodies.
    fn answering(answers: Vec<(&'static str, Value)>) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.extend(byte);
                }
                let (body, close) = (body.to_string(), "Connection: close");
                let length = body.len();
                write!(stream, "HTTP/1.1 {status}\r\n{close}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
            }
        };
        #[expect(clippy::disallowed_methods, reason = "a test's server ends with its requests")]
        std::thread::Builder::new().spawn(serve).unwrap();
        Server { url: url.parse().unwrap(), token: None, verbose: false }
    }

    #[actix_rt::test]
    async fn following_goes_on_after_a_server_that_is_away_and_ends_where_it_refuses() {
        let page = |offset: u64| {
            let records = json!([{ "offset": offset }]);
            json!({"records": records, "next": format!("newer_{offset}"), "scanned": {"complete": true}})
        };
        let server = answering(vec![
            ("200 OK", page(1)),
            ("503 Service Unavailable", json!({"detail": "the broker is away"})),
            ("200 OK", page(2)),
            ("404 Not Found", json!({"detail": "no such topic"})),
        ]);
        let args = TailArgs {
            topic: "orders".to_owned(),
            from: From::Latest,
            partition: None,
            key: None,
            contains: None,
            follow: true,
        };
        let seen = std::cell::RefCell::new(Vec::new());
        let show = |record: &Value| {
            seen.borrow_mut().push(record["offset"].clone());
            Ok(())
        };
        let ended = args.go_on(&server, "newer_0".to_owned(), &show).await.unwrap_err();
        assert_eq!(*seen.borrow(), [1, 2]);
        assert!(ended.exit() == Exit::Refused && ended.to_string() == "no such topic", "{ended}");
    }

    #[test]
    fn a_record_is_a_line() {
        let record = json!({"timestamp": "2025-01-01T00:00:00.000Z", "partition": 1, "offset": 7,
            "key": {"format": "text", "data": "k", "bytes": 1, "truncated": false},
            "value": {"format": "avro", "data": {"a": "b"}, "bytes": 9, "truncated": false}});
        assert_eq!(line(&record), "2025-01-01T00:00:00.000Z  1/7  k  {\"a\":\"b\"}");
        assert_eq!(content(&Value::Null), "(null)");
        let cut = json!({"format": "base64", "data": "/w==", "bytes": 900, "truncated": true});
        assert_eq!(content(&cut), "base64:/w==… (900 bytes)");
    }
}
