//! Where a page of records ends: a direction and one offset per partition, as text that clients hand back.

use std::collections::BTreeMap;

/// Which way a page reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From offsets on, oldest first.
    Newer,
    /// Below offsets, newest first.
    Older,
}

/// By partition, the first offset to read ([`Direction::Newer`]) or the one above the first ([`Direction::Older`]).
pub type Positions = BTreeMap<i32, i64>;

/// A cursor as text, such as `older_0.120_3.17`.
pub fn text(direction: Direction, positions: &Positions) -> String {
    let mut text = match direction {
        Direction::Newer => "newer".to_owned(),
        Direction::Older => "older".to_owned(),
    };
    for (partition, offset) in positions {
        text += &format!("_{partition}.{offset}");
    }
    text
}

/// What a text says; `None` if [`text`] did not make it.
pub fn parse(text: &str) -> Option<(Direction, Positions)> {
    let (word, rest) = text.split_once('_')?;
    let direction = match word {
        "newer" => Direction::Newer,
        "older" => Direction::Older,
        _ => return None,
    };
    let position = |part: &str| {
        let (partition, offset) = part.split_once('.')?;
        let (partition, offset): (i32, i64) = (partition.parse().ok()?, offset.parse().ok()?);
        (partition >= 0 && offset >= 0).then_some((partition, offset))
    };
    rest.split('_').map(position).collect::<Option<Positions>>().map(|positions| (direction, positions))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_says_what_was_put_into_it(
            older: bool,
            positions in prop::collection::btree_map(0..i32::MAX, 0..i64::MAX, 1..20),
        ) {
            let direction = if older { Direction::Older } else { Direction::Newer };
            prop_assert_eq!(parse(&text(direction, &positions)), Some((direction, positions)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for wrong in
            ["", "newer", "newer_", "newer_1", "newer_1.x", "newer_-1.5", "older_1.-5", "other_1.5", "older_1.5_"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
