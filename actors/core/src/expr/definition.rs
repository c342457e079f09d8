//! The text of a planned expression: the same for every way to write the same plan, and for every order of columns.
//!
//! It is what a database remembers of an expression. It names fields by their paths, so that it stays the same when a
//! schema gains fields, and has what is computed in place of a column's name. It is compared and shown, and never parsed.

use std::fmt::Write as _;

use super::plan::{Arithmetic, Case, Comparison, Node};
use crate::schema::{Scalar, StreamSchema};

pub(super) fn definition(node: &Node, schema: &StreamSchema) -> String {
    let mut text = String::new();
    write(&mut text, node, schema);
    text
}

fn write(text: &mut String, node: &Node, schema: &StreamSchema) {
    match node {
        Node::Column(index) => text.push_str(&schema.fields[*index].source()),
        Node::Constant(ty, Scalar::Null) => call(text, &format!("null::{ty:?}"), [], schema),
        Node::Constant(_, scalar) => constant(text, scalar),
        Node::ToDouble(inner) => call(text, "double", [&**inner], schema),
        Node::ToDecimal(inner, to) => {
            call(text, &format!("decimal_{}_{}", to.precision, to.scale), [&**inner], schema);
        }
        Node::Exact(operation, left, right, _) => call(text, sign(*operation), [&**left, &**right], schema),
        Node::Negate(inner) => call(text, "-", [&**inner], schema),
        Node::Arithmetic(operation, left, right) => call(text, sign(*operation), [&**left, &**right], schema),
        Node::Compare(comparison, left, right) => call(text, comparator(*comparison), [&**left, &**right], schema),
        Node::All(nodes) => call(text, "and", nodes, schema),
        Node::Any(nodes) => call(text, "or", nodes, schema),
        Node::Not(inner) => call(text, "not", [&**inner], schema),
        Node::IsNull(inner) => call(text, "is_null", [&**inner], schema),
        Node::Between { value, low, high } => call(text, "between", [&**value, &**low, &**high], schema),
        Node::In(value, list) => call(text, "in", std::iter::once(&**value).chain(list), schema),
        Node::Like { text: subject, pattern, case } => {
            let name = match case {
                Case::Sensitive => "like",
                Case::Insensitive => "ilike",
            };
            call(text, name, [&**subject, &**pattern], schema);
        }
        Node::Case { operand, branches, otherwise } => {
            let parts = branches.iter().flat_map(|(when, then)| [when, then]);
            let name = if operand.is_some() { "case_of" } else { "case" };
            call(text, name, operand.as_deref().into_iter().chain(parts).chain([&**otherwise]), schema);
        }
        Node::Call(function, arguments) => call(text, &format!("{function:?}").to_ascii_lowercase(), arguments, schema),
    }
}

fn call<'a>(text: &mut String, name: &str, arguments: impl IntoIterator<Item = &'a Node>, schema: &StreamSchema) {
    text.push_str(name);
    text.push('(');
    for (place, argument) in arguments.into_iter().enumerate() {
        if place > 0 {
            text.push_str(", ");
        }
        write(text, argument, schema);
    }
    text.push(')');
}

fn constant(text: &mut String, scalar: &Scalar) {
    match scalar {
        Scalar::Null => text.push_str("null"),
        Scalar::Boolean(value) => write!(text, "{value}").expect("a string takes all text"),
        Scalar::Integer(value) => write!(text, "{value}").expect("a string takes all text"),
        // With a point or an exponent, so that 1.0 is not the integer 1.
        Scalar::Number(value) => write!(text, "{value:?}").expect("a string takes all text"),
        Scalar::Decimal(value) => write!(text, "{value}").expect("a string takes all text"),
        Scalar::Text(value) => write!(text, "{value:?}").expect("a string takes all text"),
    }
}

fn sign(operation: Arithmetic) -> &'static str {
    match operation {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
    }
}

fn comparator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}
