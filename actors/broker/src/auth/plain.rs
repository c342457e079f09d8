//! SASL PLAIN (RFC 4616): one token with the identity to act for, the user and the password.

use super::{ANOTHER_IDENTITY, Step, Users, WRONG_SECRET};

/// Checks the only token of the mechanism.
pub(super) fn check_plain(token: &[u8], users: &Users) -> Step {
    let mut parts = token.split(|byte| *byte == 0).map(str::from_utf8);
    let (Some(Ok(acts_for)), Some(Ok(user)), Some(Ok(password)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Step::Failed("the PLAIN token is not [identity] NUL user NUL password");
    };
    if !acts_for.is_empty() && acts_for != user {
        return Step::Failed(ANOTHER_IDENTITY);
    }
    if users.has_password(user, password) {
        Step::Done { user: user.to_owned(), last: Vec::new() }
    } else {
        Step::Failed(WRONG_SECRET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mechanism, User};

    fn users() -> Users {
        Users::new(&[User::new("ann", "pencil")], &[Mechanism::Plain]).unwrap()
    }

    #[test]
    fn the_right_password_is_enough() {
        let done = Step::Done { user: "ann".to_owned(), last: Vec::new() };
        assert_eq!(check_plain(b"\0ann\0pencil", &users()), done);
        assert_eq!(check_plain(b"ann\0ann\0pencil", &users()), done);
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_are_told_the_same() {
        for token in [&b"\0ann\0pencils"[..], b"\0ann\0pen", b"\0ann\0", b"\0bob\0pencil", b"\0\0"] {
            assert_eq!(check_plain(token, &users()), Step::Failed(WRONG_SECRET), "{token:?}");
        }
    }

    #[test]
    fn nobody_acts_for_somebody_else() {
        assert_eq!(check_plain(b"bob\0ann\0pencil", &users()), Step::Failed(ANOTHER_IDENTITY));
    }

    #[test]
    fn a_token_of_another_shape_is_refused() {
        for token in [&b""[..], b"ann", b"ann\0pencil", b"\0ann\0pencil\0", b"\0ann\0pen\xffcil"] {
            assert!(matches!(check_plain(token, &users()), Step::Failed(reason) if reason != WRONG_SECRET));
        }
    }
}
