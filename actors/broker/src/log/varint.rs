//! Zigzag varints as records carry them: of 32 bits in at most 5 bytes, of 64 bits in at most 10.

/// A number of 32 bits; `bytes` moves behind it. `None` if it does not end or has more bits.
pub(crate) fn int(bytes: &mut &[u8]) -> Option<i32> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(i32::from(first >> 1) ^ -i32::from(first & 1));
    }
    let value = unsigned(bytes, 5)?;
    let value = u32::try_from(value).ok()?;
    Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

/// A number of 64 bits; `bytes` moves behind it. `None` if it does not end or has more bits.
pub(crate) fn long(bytes: &mut &[u8]) -> Option<i64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(i64::from(first >> 1) ^ -i64::from(first & 1));
    }
    let value = unsigned(bytes, 10)?;
    Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

fn unsigned(bytes: &mut &[u8], max_bytes: usize) -> Option<u64> {
    let mut value = 0_u64;
    for (n, &byte) in bytes.iter().take(max_bytes).enumerate() {
        let part = u64::from(byte & 0x7f);
        let shifted = part << (7 * n);
        if shifted >> (7 * n) != part {
            return None;
        }
        value |= shifted;
        if byte < 0x80 {
            *bytes = &bytes[n + 1..];
            return Some(value);
        }
    }
    None
}

/// An encoded number.
pub(crate) struct Varint {
    encoded: [u8; 10],
    len: usize,
}

impl Varint {
    pub fn of(value: i64) -> Self {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut varint = Self { encoded: [0; 10], len: 0 };
        loop {
            let low = u8::try_from(rest & 0x7f).unwrap_or(0);
            rest >>= 7;
            varint.encoded[varint.len] = if rest == 0 { low } else { low | 0x80 };
            varint.len += 1;
            if rest == 0 {
                return varint;
            }
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.encoded[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for value in [0, 1, -1, 63, 64, -65, 8_192, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let encoded = Varint::of(value);
            let mut bytes = encoded.bytes();
            assert_eq!(long(&mut bytes), Some(value));
            assert!(bytes.is_empty());
            let mut bytes = encoded.bytes();
            assert_eq!(int(&mut bytes).map(i64::from), i32::try_from(value).ok().map(i64::from), "{value}");
        }
    }

    #[test]
    fn more_bytes_or_bits_than_the_type_has_are_refused() {
        assert_eq!(int(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None, "six bytes");
        assert_eq!(int(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None, "33 bits");
        assert_eq!(int(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(i32::MIN));
        assert_eq!(int(&mut &[0x80, 0x00][..]), Some(0), "longer than needed, as other readers allow");
        assert_eq!(long(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]), None, "65 bits");
        assert_eq!(long(&mut &[0x80; 11][..]), None);
        assert_eq!(int(&mut &[0x80][..]), None);
    }
}
