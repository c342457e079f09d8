//! Text to syntax tree, by the sqlparser crate, within limits; positions back to bytes of the text.

use std::ops::Range;

use sqlparser::{
    ast::Expr,
    dialect::GenericDialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer},
};

use super::error::ExprError;

/// Longest expression text, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 8 * 1_024;

/// Deepest nesting of an expression: what the parser needs for it stays within the 2 MiB stack of a thread.
pub const MAX_EXPRESSION_DEPTH: usize = 20;

/// Levels of the syntax tree: an expression of that depth takes some more of them.
pub(super) const PARSER_LEVELS: usize = MAX_EXPRESSION_DEPTH + 8;

/// Parses one expression that takes up the whole text.
pub(super) fn parse(text: &str) -> Result<Expr, ExprError> {
    if text.len() > MAX_EXPRESSION_BYTES {
        return Err(ExprError::new(text, 0..0, format!("the expression is longer than {MAX_EXPRESSION_BYTES} bytes")));
    }
    if text.trim().is_empty() {
        return Err(ExprError::new(text, 0..0, "the expression is empty"));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|error| {
        let at = byte_of(text, error.location);
        ExprError::new(text, at..at, error.message)
    })?;
    check_nesting(text, &tokens)?;
    let mut parser = Parser::new(&dialect).with_recursion_limit(PARSER_LEVELS).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|error| syntax_error(text, &error))?;
    let rest = parser.peek_token();
    if rest.token == Token::EOF {
        return Ok(expr);
    }
    Err(ExprError::new(text, bytes_of(text, rest.span), format!("'{}' is not expected here", rest.token)))
}

/// Refuses deep nesting before the parser does: it tries several readings and then reports the wrong one.
fn check_nesting(text: &str, tokens: &[TokenWithSpan]) -> Result<(), ExprError> {
    let mut depth = 0_usize;
    for token in tokens {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::CASE => depth += 1,
            Token::Word(word) if word.keyword == Keyword::END => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_EXPRESSION_DEPTH {
            return Err(ExprError::new(text, bytes_of(text, token.span), too_deep()));
        }
    }
    Ok(())
}

pub(super) fn too_deep() -> String {
    format!("the expression is nested deeper than {MAX_EXPRESSION_DEPTH} levels")
}

/// Bytes of `text` that a span means.
pub(super) fn bytes_of(text: &str, span: Span) -> Range<usize> {
    let start = byte_of(text, span.start);
    start..byte_of(text, span.end).max(start)
}

fn byte_of(text: &str, location: Location) -> usize {
    let (Ok(line), Ok(column)) = (usize::try_from(location.line), usize::try_from(location.column)) else { return 0 };
    if line == 0 {
        return 0;
    }
    let mut line_start = 0;
    for (index, content) in text.split_inclusive('\n').enumerate() {
        if index + 1 == line {
            let within = content.char_indices().nth(column.saturating_sub(1)).map_or(content.len(), |(byte, _)| byte);
            return line_start + within;
        }
        line_start += content.len();
    }
    text.len()
}

fn syntax_error(text: &str, error: &ParserError) -> ExprError {
    match error {
        ParserError::RecursionLimitExceeded => ExprError::new(text, 0..0, too_deep()),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            let (message, location) = split_location(message);
            let at = location.map_or(text.len(), |location| byte_of(text, location));
            ExprError::new(text, at..at, message)
        }
    }
}

/// The parser writes the place behind its message: `Expected: …, found: x at Line: 1, Column: 5`.
fn split_location(message: &str) -> (&str, Option<Location>) {
    let parts = message.rsplit_once(" at Line: ").and_then(|(head, tail)| {
        let (line, column) = tail.split_once(", Column: ")?;
        Some((head, Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? }))
    });
    parts.map_or((message, None), |(head, location)| (head, Some(location)))
}
