//! Query parameters: read with their limits, all faults at once, in FastAPI's words.

use std::{future, ops::RangeInclusive};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Query};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Value, json};
use streamward_core::schema::instant;

use super::problem::{FieldFault, Problem};

/// The parameters of one request, and what is wrong with those read so far.
#[derive(Debug, Default)]
pub struct Params {
    given: Vec<(String, String)>,
    faults: Vec<FieldFault>,
}

impl FromRequest for Params {
    type Error = Problem;
    type Future = future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let given = Query::from_query(request.query_string()).map(Query::into_inner);
        future::ready(Ok(Self { given: given.unwrap_or_default(), faults: Vec::new() }))
    }
}

impl Params {
    /// A text; the last one where it is given several times.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.given.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    }

    /// The texts of a parameter that may be given several times, or once with commas.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        let given = self.given.iter().filter(|(own, _)| own == name);
        given.flat_map(|(_, texts)| texts.split(',')).map(|text| text.trim().to_owned()).collect()
    }

    /// The parameters that are not among `names`.
    #[must_use]
    pub fn others(&self, names: &[&str]) -> Vec<(String, String)> {
        self.given.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect()
    }

    /// A whole number within its limits.
    pub fn integer(&mut self, name: &'static str, default: u32, allowed: RangeInclusive<u32>) -> u32 {
        let Some(text) = self.text(name) else {
            return default;
        };
        let Ok(number) = text.trim().parse::<i128>() else {
            let msg = "Input should be a valid integer, unable to parse string as an integer".to_owned();
            self.fault("int_parsing", name, msg, None);
            return default;
        };
        let (low, high) = (allowed.start(), allowed.end());
        if number < i128::from(*low) {
            let msg = format!("Input should be greater than or equal to {low}");
            self.fault("greater_than_equal", name, msg, Some(json!({"ge": low})));
        } else if number > i128::from(*high) {
            let msg = format!("Input should be less than or equal to {high}");
            self.fault("less_than_equal", name, msg, Some(json!({"le": high})));
        }
        u32::try_from(number).unwrap_or(default)
    }

    /// A whole number from 0 on, if it is given.
    pub fn number(&mut self, name: &'static str) -> Option<i64> {
        let number = self.text(name)?.trim().parse().ok().filter(|number| *number >= 0);
        if number.is_none() {
            let msg = "Input should be a whole number from 0 on".to_owned();
            self.fault("int_parsing", name, msg, None);
        }
        number
    }

    /// A time: RFC 3339, the same without offset (UTC), or milliseconds since 1970, in the years 1 to 9999.
    pub fn time_ms(&mut self, name: &'static str) -> Option<i64> {
        let text = self.text(name)?;
        let time = text.parse().ok().filter(|ms| instant::is_in_range(*ms)).or_else(|| read_time(&text));
        if time.is_none() {
            let msg = "Input should be a valid datetime".to_owned();
            self.fault("datetime_parsing", name, msg, None);
        }
        time
    }

    /// A text out of a list.
    pub fn one_of(&mut self, name: &'static str, allowed: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        if !allowed.contains(&text.as_str()) {
            let expected = allowed.iter().map(|symbol| format!("'{symbol}'")).collect::<Vec<_>>().join(" or ");
            let msg = format!("Input should be {expected}");
            self.fault("enum", name, msg, Some(json!({"expected": expected})));
        }
        Some(text)
    }

    /// Notes a fault for each parameter that is not among `names`, and names them.
    pub fn only(&mut self, names: &[&'static str]) {
        for (name, input) in self.others(names) {
            let msg = format!("there is no parameter {name}; there is {}", names.join(", "));
            let loc = vec!["query".into(), name.into()];
            self.faults.push(FieldFault { kind: "extra_forbidden", loc, msg, input: input.into(), ctx: None });
        }
    }

    /// # Errors
    /// 422 with all faults met.
    pub fn finish(self) -> Result<(), Problem> {
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::unprocessable(&self.faults)) }
    }

    fn fault(&mut self, kind: &'static str, name: &'static str, msg: String, ctx: Option<Value>) {
        let input = self.text(name).unwrap_or_default().into();
        self.faults.push(FieldFault { kind, loc: vec!["query".into(), name.into()], msg, input, ctx });
    }
}

/// A time as answers show it, or in another layout of RFC 3339 (UTC without offset), in milliseconds since 1970 (UTC).
pub fn read_time(text: &str) -> Option<i64> {
    // The other reader knows more layouts, and not the last day of the year 9999.
    instant::parse(text).or_else(|| {
        let zoned = text.parse::<Timestamp>();
        let plain = || text.parse::<DateTime>()?.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
        zoned.or_else(|_| plain()).ok().map(Timestamp::as_millisecond)
    })
}
