//! Definitions as people write them in a configuration.

use super::{ColumnDefinition, PipelineDefinition};

const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time as a configuration has it: `1h30m`; `0s` for nothing, and for less.
pub(crate) fn duration(ms: i64) -> String {
    if ms <= 0 {
        return "0s".to_owned();
    }
    let (text, _) = UNITS.iter().fold((String::new(), ms), |(text, rest), (unit, length)| match rest / length {
        0 => (text, rest),
        count => (format!("{text}{count}{unit}"), rest % length),
    });
    text
}

/// Columns of a pipeline's window with what is in them, as written, joined by commas; `nothing` where there is none.
pub(super) fn columns(columns: &[ColumnDefinition], pipeline: &PipelineDefinition) -> String {
    joined(columns.iter().map(|defined| column(defined, pipeline.as_written(&defined.field))))
}

/// Likewise, as planned.
pub(super) fn planned_columns(columns: &[ColumnDefinition]) -> String {
    joined(columns.iter().map(|defined| column(defined, &defined.field)))
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}

/// Two texts as people wrote them; as planned where both wrote the same: it means something else where a field in it does.
pub(super) fn apart<T: PartialEq>(written: (T, T), planned: impl FnOnce() -> (T, T)) -> (T, T) {
    if written.0 == written.1 { planned() } else { written }
}

/// What is in a stream's column: `field weight`, or what it is derived from, as written if somebody wrote that down.
pub(super) fn source(defined: &ColumnDefinition, pipeline: Option<&PipelineDefinition>) -> String {
    match defined.derived_from() {
        Some(planned) => in_words(planned, pipeline.map_or(planned, |pipeline| pipeline.as_written(planned))),
        None => format!("field {}", defined.field),
    }
}

fn column(defined: &ColumnDefinition, written: &str) -> String {
    let ColumnDefinition { column, field, kind } = defined;
    let field = in_words(field, written);
    if *column == field { format!("`{column}` ({kind})") } else { format!("`{column}`: {field} ({kind})") }
}

/// What a person wrote; where nobody wrote that down, what was planned of it.
fn in_words(planned: &str, written: &str) -> String {
    if written == planned { without_conversions(planned) } else { written.to_owned() }
}

/// Without the conversions to a float that a plan adds: nobody writes `double(value)`.
fn without_conversions(planned: &str) -> String {
    const CALL: &str = "double(";
    let mut text = String::with_capacity(planned.len());
    // Of each open parenthesis, whether it stays.
    let mut open = Vec::new();
    let mut quoted = Quoted::default();
    let mut rest = planned;
    while let Some(letter) = rest.chars().next() {
        if !quoted.is_within(letter) && rest.starts_with(CALL) && !text.ends_with(is_of_a_name) {
            open.push(false);
            rest = &rest[CALL.len()..];
            continue;
        }
        let stays = match letter {
            '(' if !quoted.0 => {
                open.push(true);
                true
            }
            ')' if !quoted.0 => open.pop().unwrap_or(true),
            _ => true,
        };
        if stays {
            text.push(letter);
        }
        rest = &rest[letter.len_utf8()..];
    }
    text
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '.')
}

/// Whether a place is within a quoted text, in which a backslash takes the next letter's meaning.
#[derive(Default)]
struct Quoted(bool, bool);

impl Quoted {
    /// Moves behind the next letter, and says whether that belongs to a quoted text.
    fn is_within(&mut self, letter: char) -> bool {
        let was = self.0;
        let is_escaped = std::mem::take(&mut self.1);
        match letter {
            '\\' if was && !is_escaped => self.1 = true,
            '"' if !is_escaped => self.0 = !was,
            _ => {}
        }
        was || self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_written_as_in_a_configuration() {
        for (ms, text) in [
            (3_600_000, "1h"),
            (60_000, "1m"),
            (90_061_001, "1d1h1m1s1ms"),
            (5_400_000, "1h30m"),
            (20, "20ms"),
            (0, "0s"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn columns_are_written_with_what_a_person_wrote_and_their_type() {
        let column = |column: &str, field: &str, kind: &str| ColumnDefinition {
            column: column.to_owned(),
            field: field.to_owned(),
            kind: kind.to_owned(),
        };
        assert_eq!(planned_columns(&[]), "nothing");
        let group = [column("depot", "depot", "string"), column("code", "origin.code", "int")];
        assert_eq!(planned_columns(&group), "`depot` (string), `code`: origin.code (int)");
        assert_eq!(planned_columns(&[column("mean", "avg(double(weight))", "double")]), "`mean`: avg(weight) (double)");
    }

    #[test]
    fn only_conversions_that_the_plan_added_are_left_out() {
        for (planned, text) in [
            ("avg(*(double(a), 1.5))", "avg(*(a, 1.5))"),
            ("sum(double(+(a, b)))", "sum(+(a, b))"),
            ("count(=(x, \"double(a)\"))", "count(=(x, \"double(a)\"))"),
            ("count(=(x, \"\\\"double(a)\"))", "count(=(x, \"\\\"double(a)\"))"),
            ("max(redouble(a))", "max(redouble(a))"),
        ] {
            assert_eq!(without_conversions(planned), text);
        }
    }
}
