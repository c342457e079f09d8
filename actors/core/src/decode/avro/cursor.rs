//! Bounded reading of Avro's primitives from a slice. Never reads past the end, never allocates.

/// Why the bytes are no Avro value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireFault {
    EndsEarly,
    VarintTooLong,
    NotAnInt,
    NotABoolean,
    NegativeLength,
    NotUtf8,
    NoSuchBranch,
    NoSuchSymbol,
    TooDeep,
    TooManyItems,
}

impl WireFault {
    pub fn text(self) -> &'static str {
        match self {
            Self::EndsEarly => "the bytes end early",
            Self::VarintTooLong => "a number of more than 64 bits",
            Self::NotAnInt => "an int of more than 32 bits",
            Self::NotABoolean => "a boolean that is neither 0 nor 1",
            Self::NegativeLength => "a negative length",
            Self::NotUtf8 => "a string that is not UTF-8",
            Self::NoSuchBranch => "a union branch that the schema does not have",
            Self::NoSuchSymbol => "an enum position that the schema does not have",
            Self::TooDeep => "values nested too deeply",
            Self::TooManyItems => "more items than its bytes can justify",
        }
    }
}

/// A position in a datum.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireFault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireFault::EndsEarly)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireFault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireFault::EndsEarly)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn boolean(&mut self) -> Result<bool, WireFault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(WireFault::NotABoolean),
        }
    }

    /// A zigzag varint of at most 64 bits.
    pub fn long(&mut self) -> Result<i64, WireFault> {
        const LAST_SHIFT: u32 = 63;
        let mut value = 0_u64;
        let mut shift = 0;
        loop {
            let [byte] = self.array()?;
            if shift == LAST_SHIFT && byte > 1 {
                return Err(WireFault::VarintTooLong);
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
            shift += 7;
        }
    }

    pub fn int(&mut self) -> Result<i32, WireFault> {
        i32::try_from(self.long()?).map_err(|_| WireFault::NotAnInt)
    }

    /// Position in an enum or a union.
    pub fn index(&mut self, count: usize, fault: WireFault) -> Result<usize, WireFault> {
        usize::try_from(self.long()?).ok().filter(|index| *index < count).ok_or(fault)
    }

    pub fn float(&mut self) -> Result<f32, WireFault> {
        self.array().map(f32::from_le_bytes)
    }

    pub fn double(&mut self) -> Result<f64, WireFault> {
        self.array().map(f64::from_le_bytes)
    }

    /// Bytes or string: a length and as many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireFault> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| WireFault::NegativeLength)?;
        self.take(length)
    }

    pub fn string(&mut self) -> Result<&'a str, WireFault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireFault::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_up_to_64_bits() {
        for (bytes, value) in [
            (&[0_u8][..], 0_i64),
            (&[1], -1),
            (&[2], 1),
            (&[0x80, 0x01], 64),
            (&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], i64::MAX),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], i64::MIN),
        ] {
            assert_eq!(Cursor::new(bytes).long(), Ok(value));
        }
    }

    #[test]
    fn a_varint_beyond_64_bits_or_without_end_is_a_fault() {
        assert_eq!(Cursor::new(&[0xFF; 9]).long(), Err(WireFault::EndsEarly));
        assert_eq!(Cursor::new(&[0xFF; 10]).long(), Err(WireFault::VarintTooLong));
        let mut bytes = [0x80; 10];
        bytes[9] = 0x02;
        assert_eq!(Cursor::new(&bytes).long(), Err(WireFault::VarintTooLong));
    }

    #[test]
    fn an_int_has_at_most_32_bits() {
        for (bytes, value) in [
            (&[0xFE_u8, 0xFF, 0xFF, 0xFF, 0x0F][..], Ok(i32::MAX)),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], Ok(i32::MIN)),
            (&[0x80, 0x80, 0x80, 0x80, 0x10], Err(WireFault::NotAnInt)),
            (&[0x81, 0x80, 0x80, 0x80, 0x10], Err(WireFault::NotAnInt)),
            (&[0x80, 0x80, 0x80, 0x80, 0x20], Err(WireFault::NotAnInt)),
        ] {
            assert_eq!(Cursor::new(bytes).int(), value, "{bytes:x?}");
        }
    }

    #[test]
    fn a_length_is_never_believed_beyond_the_bytes() {
        assert_eq!(Cursor::new(&[0x06, b'a', b'b']).bytes(), Err(WireFault::EndsEarly));
        assert_eq!(Cursor::new(&[0x01]).bytes(), Err(WireFault::NegativeLength));
        assert_eq!(Cursor::new(&[0x02, 0xFF]).string(), Err(WireFault::NotUtf8));
    }
}
