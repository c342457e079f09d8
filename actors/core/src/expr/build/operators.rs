//! Operators of an expression: arithmetic, comparisons, logic, IN, BETWEEN, LIKE, CASE.

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, UnaryOperator};

use super::{Builder, Joining, Typed, decimals, negate_if, not, null, shortened};
use crate::{
    expr::{
        error::ExprError,
        functions::Function,
        plan::{Arithmetic, Case, Comparison, Node, Type},
    },
    schema::{Decimal, Scalar},
};

impl<'a> Builder<'a> {
    pub(super) fn unary(&self, at: &Expr, op: UnaryOperator, operand: &Expr) -> Result<Typed<'a>, ExprError> {
        match op {
            UnaryOperator::Not => Ok(not(Typed::new(self.boolean(operand)?, Type::Boolean))),
            UnaryOperator::Plus => self.number_operand(operand),
            UnaryOperator::Minus => {
                let typed = self.number_operand(operand)?;
                let negated = match typed.node {
                    Node::Constant(ty, Scalar::Integer(value)) if value != i64::MIN => {
                        Node::Constant(ty, Scalar::Integer(-value))
                    }
                    Node::Constant(ty, Scalar::Number(value)) => Node::Constant(ty, Scalar::Number(-value)),
                    node => Node::Negate(Box::new(node)),
                };
                let exact = typed.exact.map(|written| Decimal { unscaled: -written.unscaled, ..written });
                Ok(Typed { exact, ..Typed::new(negated, typed.ty) })
            }
            _ => Err(self.error(at, format!("the operator '{op}' is not supported in expressions"))),
        }
    }

    pub(super) fn binary(
        &self,
        at: &Expr,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
    ) -> Result<Typed<'a>, ExprError> {
        if let Some(op) = arithmetic(op) {
            return self.arithmetic(at, left, op, right);
        }
        if let Some(op) = comparison(op) {
            self.refuse_null_beside(left, op, right)?;
            let [left, right] = self.comparable([left, right])?;
            return Ok(Typed::new(Node::Compare(op, left, right), Type::Boolean));
        }
        match op {
            BinaryOperator::And => Ok(Typed::new(Node::All(self.chain(at, op)?), Type::Boolean)),
            BinaryOperator::Or => Ok(Typed::new(Node::Any(self.chain(at, op)?), Type::Boolean)),
            _ => Err(self.error(at, format!("the operator '{op}' is not supported in expressions"))),
        }
    }

    /// The terms of `a AND b AND c` (or of OR) as one list, so that long conditions are not deep ones.
    fn chain(&self, expr: &Expr, chained: &BinaryOperator) -> Result<Vec<Node>, ExprError> {
        let mut terms = Vec::new();
        let mut rest = expr;
        while let Expr::BinaryOp { left, op, right } = rest
            && op == chained
        {
            terms.push(self.boolean(right)?);
            rest = left;
        }
        terms.push(self.boolean(rest)?);
        terms.reverse();
        Ok(terms)
    }

    fn arithmetic(&self, at: &Expr, left: &Expr, op: Arithmetic, right: &Expr) -> Result<Typed<'a>, ExprError> {
        let typed = [self.number_operand(left)?, self.number_operand(right)?];
        if decimals::are_decimals(&typed.iter().collect::<Vec<_>>()) {
            return self.decimal_arithmetic(at, op, typed);
        }
        let operands = [left, right].into_iter().zip(typed).collect();
        let (nodes, ty) = self.unify(Joining::Compute, operands)?;
        let [left, right] = boxed(nodes);
        Ok(Typed::new(Node::Arithmetic(op, left, right), ty))
    }

    pub(super) fn number_operand(&self, expr: &Expr) -> Result<Typed<'a>, ExprError> {
        let typed = self.scalar(expr)?;
        match typed.ty {
            Type::Integer | Type::Double | Type::Decimal(_) => Ok(typed),
            Type::Null => Ok(Typed::new(null(Type::Integer), Type::Integer)),
            Type::Boolean | Type::Text | Type::Timestamp => {
                Err(self.error(expr, format!("a number is expected here, but this is {}", typed.ty.noun())))
            }
        }
    }

    /// Plans expressions that are compared with one another.
    fn comparable<const N: usize>(&self, exprs: [&Expr; N]) -> Result<[Box<Node>; N], ExprError> {
        let operands = self.each(exprs)?;
        self.check_symbols(&operands)?;
        Ok(boxed(self.unify(Joining::Compare, operands)?.0))
    }

    pub(super) fn is_null(&self, operand: &Expr) -> Result<Typed<'a>, ExprError> {
        let typed = self.scalar(operand)?;
        let node = if typed.ty == Type::Null { null(Type::Boolean) } else { typed.node };
        Ok(Typed::new(Node::IsNull(Box::new(node)), Type::Boolean))
    }

    pub(super) fn is_true(&self, operand: &Expr) -> Result<Typed<'a>, ExprError> {
        Ok(Typed::new(false_if_null(self.boolean(operand)?), Type::Boolean))
    }

    pub(super) fn is_false(&self, operand: &Expr) -> Result<Typed<'a>, ExprError> {
        Ok(Typed::new(false_if_null(Node::Not(Box::new(self.boolean(operand)?))), Type::Boolean))
    }

    pub(super) fn in_list(&self, value: &Expr, list: &[Expr]) -> Result<Typed<'a>, ExprError> {
        self.refuse_null_in_list(value, list)?;
        let operands = self.each(std::iter::once(value).chain(list))?;
        self.check_symbols(&operands)?;
        let mut nodes = self.unify(Joining::Compare, operands)?.0;
        let value = Box::new(nodes.remove(0));
        Ok(Typed::new(Node::In(value, nodes), Type::Boolean))
    }

    pub(super) fn between(&self, value: &Expr, low: &Expr, high: &Expr) -> Result<Typed<'a>, ExprError> {
        let written = shortened(value);
        self.refuse_null([value, low, high], |_| format!("give both bounds, or compare {written} with one"))?;
        let [value, low, high] = self.comparable([value, low, high])?;
        Ok(Typed::new(Node::Between { value, low, high }, Type::Boolean))
    }

    pub(super) fn like(&self, at: &Expr) -> Result<Typed<'a>, ExprError> {
        let (negated, any, text, pattern, escape, case) = match at {
            Expr::Like { negated, any, expr, pattern, escape_char } => {
                (*negated, *any, expr, pattern, escape_char, Case::Sensitive)
            }
            Expr::ILike { negated, any, expr, pattern, escape_char } => {
                (*negated, *any, expr, pattern, escape_char, Case::Insensitive)
            }
            _ => return Err(self.error(at, "not a LIKE")),
        };
        if any || escape.is_some() {
            return Err(self.error(at, "LIKE ANY and ESCAPE are not supported; a backslash escapes % and _"));
        }
        self.refuse_null([&**text, &**pattern], |_| format!("write {} IS NULL", shortened(text)))?;
        let (text, pattern) = (Box::new(self.text(text)?), Box::new(self.text(pattern)?));
        Ok(negate_if(negated, Typed::new(Node::Like { text, pattern, case }, Type::Boolean)))
    }

    pub(super) fn text(&self, expr: &Expr) -> Result<Node, ExprError> {
        let typed = self.scalar(expr)?;
        match typed.ty {
            Type::Text => Ok(typed.node),
            Type::Null => Ok(null(Type::Text)),
            Type::Boolean | Type::Integer | Type::Double | Type::Timestamp | Type::Decimal(_) => {
                Err(self.error(expr, format!("a text is expected here, but this is {}", typed.ty.noun())))
            }
        }
    }

    pub(super) fn case(
        &self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Result<Typed<'a>, ExprError> {
        let results = conditions.iter().map(|branch| &branch.result).chain(otherwise);
        let (mut results, ty) = self.unify(Joining::Combine, self.each(results)?)?;
        let otherwise_node = otherwise.and_then(|_| results.pop()).unwrap_or(null(ty));
        let wheres = conditions.iter().map(|branch| &branch.condition);
        let (operand, conditions) = match operand {
            None => (None, wheres.map(|condition| self.boolean(condition)).collect::<Result<Vec<_>, _>>()?),
            Some(operand) => {
                let written = shortened(operand);
                let compared = std::iter::once(operand).chain(wheres.clone());
                self.refuse_null(compared, |_| format!("write CASE WHEN {written} IS NULL THEN …"))?;
                let operands = self.each(std::iter::once(operand).chain(wheres))?;
                self.check_symbols(&operands)?;
                let mut nodes = self.unify(Joining::Compare, operands)?.0;
                (Some(Box::new(nodes.remove(0))), nodes)
            }
        };
        let branches = conditions.into_iter().zip(results).collect();
        Ok(Typed::new(Node::Case { operand, branches, otherwise: Box::new(otherwise_node) }, ty))
    }
}

fn boxed<const N: usize>(nodes: Vec<Node>) -> [Box<Node>; N] {
    let nodes: [Node; N] = nodes.try_into().expect("unify gives a node for each operand");
    nodes.map(Box::new)
}

fn false_if_null(node: Node) -> Node {
    Node::Call(Function::Coalesce, vec![node, Node::Constant(Type::Boolean, Scalar::Boolean(false))])
}

fn arithmetic(op: &BinaryOperator) -> Option<Arithmetic> {
    Some(match op {
        BinaryOperator::Plus => Arithmetic::Add,
        BinaryOperator::Minus => Arithmetic::Subtract,
        BinaryOperator::Multiply => Arithmetic::Multiply,
        BinaryOperator::Divide => Arithmetic::Divide,
        BinaryOperator::Modulo => Arithmetic::Remainder,
        _ => return None,
    })
}

fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}
