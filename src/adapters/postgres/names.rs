//! Names of tables and indexes, and texts, as PostgreSQL takes them.

pub use streamward_core::reading::walk::quoted;

/// Bytes of an identifier that PostgreSQL keeps; it cuts the rest off.
pub const MAX_BYTES: usize = 63;
/// Digits of the hash in a name that was shortened.
const HASH_DIGITS: usize = 16;

/// The text without U+0000, which PostgreSQL has in no text.
#[must_use]
pub fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The name, or where it is too long its beginning and a hash of the whole.
#[must_use]
pub fn fitting(name: &str) -> String {
    if name.len() <= MAX_BYTES {
        return name.to_owned();
    }
    let mut end = MAX_BYTES - HASH_DIGITS - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{:0HASH_DIGITS$x}", &name[..end], hash(name))
}

/// FNV-1a (64 bits): the same in every version of the program, as names of tables have to be.
fn hash(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_to_what_postgresql_keeps_and_told_apart_from_others_with_its_beginning() {
        assert_eq!(fitting("orders_at"), "orders_at");
        let names = ["a", "b"].map(|end| fitting(&format!("{}é{end}", "x".repeat(62))));
        assert!(names.iter().all(|name| name.len() <= MAX_BYTES), "{names:?}");
        assert_ne!(names[0], names[1]);
        assert_eq!(fitting(&"é".repeat(40)).len(), MAX_BYTES);
    }
}
