//! How large a datum becomes when it is decoded, found without decoding it.
//!
//! Few bytes may stand for much: an item of type null takes none, and a type that contains itself nests as deep as
//! there are bytes.

use apache_avro::{
    Schema,
    schema::{InnerDecimalSchema, NamesRef, ResolvedSchema, UuidSchema},
};

/// About what one value takes in memory besides its text or bytes.
const VALUE_BYTES: usize = 64;
/// Most levels of a value, as many as serde_json reads of JSON.
const MAX_LEVELS: usize = 128;

/// Whether a datum of a schema takes at most `max_bytes` when it is decoded; not where it is cut short or nests too
/// deep. Looks at as many values as fit into `max_bytes`.
pub fn is_within(schema: &Schema, datum: &[u8], max_bytes: usize) -> bool {
    let Ok(resolved) = ResolvedSchema::new(schema) else { return false };
    let mut walk = Walk { names: resolved.get_names(), rest: datum, left: max_bytes };
    walk.value(schema, MAX_LEVELS).is_some()
}

struct Walk<'a> {
    names: &'a NamesRef<'a>,
    rest: &'a [u8],
    /// Bytes of memory that further values may take.
    left: usize,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Schema, levels: usize) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        self.take(VALUE_BYTES)?;
        match schema {
            Schema::Null => Some(()),
            Schema::Boolean => self.skip(1),
            Schema::Float => self.skip(4),
            Schema::Double => self.skip(8),
            Schema::Duration(fixed) | Schema::Fixed(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                self.held(fixed.size)
            }
            Schema::Bytes | Schema::String | Schema::BigDecimal => self.text(),
            Schema::Uuid(UuidSchema::String | UuidSchema::Bytes) => self.text(),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Fixed(fixed) => self.held(fixed.size),
                InnerDecimalSchema::Bytes => self.text(),
            },
            Schema::Array(array) => self.blocks(|walk| walk.value(&array.items, levels)),
            Schema::Map(map) => self.blocks(|walk| {
                walk.text()?;
                walk.value(&map.types, levels)
            }),
            Schema::Union(union) => {
                let branch = usize::try_from(self.long()?).ok()?;
                self.value(union.variants().get(branch)?, levels)
            }
            Schema::Record(record) => record.fields.iter().try_for_each(|field| {
                self.take(field.name.len())?;
                self.value(&field.schema, levels)
            }),
            Schema::Ref { name } => {
                let definition = *self.names.get(name)?;
                self.value(definition, levels)
            }
            // Numbers, and what is kept as one.
            _ => self.long().map(drop),
        }
    }

    /// Items in blocks, each with their number in front; a negative one is followed by the block's bytes.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        loop {
            let count = self.long()?;
            if count < 0 {
                self.long()?;
            }
            if count == 0 {
                return Some(());
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn text(&mut self) -> Option<()> {
        let length = usize::try_from(self.long()?).ok()?;
        self.held(length)
    }

    /// Bytes that the value keeps.
    fn held(&mut self, bytes: usize) -> Option<()> {
        self.take(bytes)?;
        self.skip(bytes)
    }

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }

    fn long(&mut self) -> Option<i64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#;

    fn holds(schema: &str, datum: &[u8], max_bytes: usize) -> bool {
        is_within(&Schema::parse_str(schema).unwrap(), datum, max_bytes)
    }

    #[test]
    fn items_that_take_no_bytes_are_counted() {
        let nulls = r#"{"type": "array", "items": "null"}"#;
        // One block of a hundred items, and the end.
        let datum = [200, 1, 0];
        assert!(holds(nulls, &datum, 101 * VALUE_BYTES));
        assert!(!holds(nulls, &datum, 101 * VALUE_BYTES - 1));
    }

    #[test]
    fn a_type_that_contains_itself_nests_so_deep_and_no_deeper() {
        let nested = |depth: usize| [vec![2; depth], vec![0]].concat();
        assert!(holds(LIST, &nested(10), 1 << 20));
        assert!(!holds(LIST, &nested(100_000), 1 << 30));
    }

    #[test]
    fn a_datum_that_ends_early_or_promises_too_much_is_none() {
        for datum in [&[][..], &[4, b'a'], &[255; 11], &[1]] {
            assert!(!holds(r#""string""#, datum, 1 << 20), "{datum:?}");
        }
        assert!(holds(r#""string""#, &[4, b'h', b'i'], 1 << 20));
        assert!(!holds(r#""string""#, &[4, b'h', b'i'], VALUE_BYTES + 1));
    }
}
