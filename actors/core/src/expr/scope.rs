//! Which records a rule is about: the part of its condition that only picks records.

use sqlparser::ast::{BinaryOperator, Expr, Value};

use super::syntax;

/// The conjuncts of a condition that compare a field with a text (`sensor_type = 'temperature'`), joined by AND.
///
/// None if there is no such conjunct, or nothing besides: then every record is judged by the whole condition. A text
/// that is no expression has none either; planning the condition reports that.
#[must_use]
pub fn scope_of(condition: &str) -> Option<String> {
    let expr = syntax::parse(condition).ok()?;
    let mut conjuncts = Vec::new();
    flatten(&expr, &mut conjuncts);
    let all = conjuncts.len();
    conjuncts.retain(|conjunct| picks_records(conjunct));
    if conjuncts.is_empty() || conjuncts.len() == all {
        return None;
    }
    Some(conjuncts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" AND "))
}

fn flatten<'a>(expr: &'a Expr, conjuncts: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            flatten(left, conjuncts);
            flatten(right, conjuncts);
        }
        Expr::Nested(inner) => flatten(inner, conjuncts),
        other => conjuncts.push(other),
    }
}

fn picks_records(expr: &Expr) -> bool {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = expr else { return false };
    let is_field = |side: &Expr| matches!(side, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    let is_text =
        |side: &Expr| matches!(side, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)));
    (is_field(left) && is_text(right)) || (is_text(left) && is_field(right))
}

#[cfg(test)]
mod tests {
    use super::scope_of;

    #[test]
    fn comparisons_with_a_text_pick_the_records() {
        let scope = scope_of("sensor_type = 'temperature' AND (value > 80 AND 'zone_1' = location)");
        assert_eq!(scope.as_deref(), Some("sensor_type = 'temperature' AND 'zone_1' = location"));
    }

    #[test]
    fn a_condition_without_such_a_part_or_with_nothing_else_judges_every_record() {
        for condition in ["value > 80", "sensor_type = 'humidity'", "sensor_type = 'a' OR value > 1", "value >"] {
            assert_eq!(scope_of(condition), None, "{condition}");
        }
    }
}
