//! How people name a field, the same everywhere: by its column (`battery_level`) or by its path in the record
//! (`metadata.battery_level`).
//!
//! A name in another case is understood where it can mean one field only.

use super::StreamSchema;
use crate::expr::suggestion;

/// Fields that an error lists where none is near.
const MAX_LISTED: usize = 12;

/// The place of the field that `name` means among fields given as (column, path).
///
/// An exact name goes first: another field of the same letters does not take it.
pub fn place_of<'a>(name: &str, fields: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<usize> {
    let exact = |(column, path): (&str, &str)| column == name || path == name;
    let in_any_case =
        |(column, path): &(&str, &str)| column.eq_ignore_ascii_case(name) || path.eq_ignore_ascii_case(name);
    fields.clone().position(exact).or_else(|| {
        let mut meant = fields.enumerate().filter(|(_, field)| in_any_case(field));
        let (place, _) = meant.next()?;
        meant.next().is_none().then_some(place)
    })
}

/// What to say of a name that means none of the fields given as (column, path): the nearest, or which there are.
#[must_use]
pub fn unknown<'a>(name: &str, fields: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let hint = suggestion(name, fields.clone().flat_map(|(column, path)| [column, path]));
    if !hint.is_empty() {
        return format!("unknown field '{name}'{hint}");
    }
    let listed: Vec<&str> = fields.clone().take(MAX_LISTED).map(|(_, path)| path).collect();
    let more = fields.count() - listed.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("unknown field '{name}'; the fields are {}{more}", listed.join(", "))
}

impl StreamSchema {
    /// Index of the field that a configuration or a request names, by its column or its path.
    ///
    /// # Errors
    /// What to say where there is none: the nearest, or which there are.
    pub fn field_named(&self, name: &str) -> Result<usize, String> {
        let dotted: Vec<String> = self.fields.iter().map(super::Field::dotted).collect();
        let names = self.fields.iter().zip(&dotted).map(|(field, path)| (field.column.as_str(), path.as_str()));
        place_of(name, names.clone()).ok_or_else(|| unknown(name, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [(&str, &str); 4] =
        [("who", "who"), ("battery_level", "metadata.battery_level"), ("Zone", "Zone"), ("c", "a.b.c")];

    fn place(name: &str) -> Option<usize> {
        place_of(name, FIELDS.into_iter())
    }

    #[test]
    fn a_field_is_named_by_its_column_or_its_path_in_any_case() {
        for name in ["battery_level", "metadata.battery_level", "BATTERY_LEVEL", "Metadata.Battery_Level"] {
            assert_eq!(place(name), Some(1), "{name}");
        }
        assert_eq!((place("zone"), place("a.b.c"), place("b.c"), place("a")), (Some(2), Some(3), None, None));
    }

    #[test]
    fn an_exact_name_goes_before_one_in_another_case_and_two_such_are_none() {
        let two = [("Zone", "Zone"), ("zone", "a.zone")];
        assert_eq!(place_of("zone", two.into_iter()), Some(1));
        assert_eq!(place_of("Zone", two.into_iter()), Some(0));
        assert_eq!(place_of("ZONE", two.into_iter()), None);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_or_with_those_that_there_are() {
        let said = |name: &str| unknown(name, FIELDS.into_iter());
        assert_eq!(
            said("metadata.batery_level"),
            "unknown field 'metadata.batery_level', did you mean 'metadata.battery_level'?"
        );
        assert_eq!(said("a.b.d"), "unknown field 'a.b.d', did you mean 'a.b.c'?");
        assert_eq!(
            said("pressure"),
            "unknown field 'pressure'; the fields are who, metadata.battery_level, Zone, a.b.c"
        );
        let many = std::iter::repeat_n(("x", "x"), 15);
        assert!(unknown("pressure", many).ends_with("x and 3 more"));
    }
}
