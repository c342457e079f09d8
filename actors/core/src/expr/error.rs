//! What is wrong with an expression or a step's settings, and where.

use std::ops::Range;

/// A fault in an expression's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {line}, column {column})")]
pub struct ExprError {
    /// What is wrong, and what was meant if that can be guessed.
    pub message: String,
    /// Bytes of the text that are meant; may be empty.
    pub span: Range<usize>,
    /// Line of the start of `span`, from 1.
    pub line: usize,
    /// Character in that line, from 1.
    pub column: usize,
}

/// A fault in the settings of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFault {
    /// The setting within the step, such as `select.avg_value`.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// The place in the setting's text, if it is an expression.
    pub place: Option<ExprError>,
}

impl ExprError {
    pub(super) fn new(text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let before = &text[..span.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Self { message: message.into(), span, line, column }
    }
}

impl PlanFault {
    /// A fault of a setting that is no expression.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), place: None }
    }

    /// A fault of an expression.
    pub fn in_expression(key: impl Into<String>, error: ExprError) -> Self {
        Self { key: key.into(), message: error.to_string(), place: Some(error) }
    }
}

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let allowed = 1 + word.chars().count() / 4;
    let scored = candidates.into_iter().map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name));
    scored.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// `, did you mean 'x'?` or nothing.
pub(crate) fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |name| format!(", did you mean '{name}'?"))
}
