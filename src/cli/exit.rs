//! How a command ends: its exit code, and the error that it ends with.

use std::{fmt, process::ExitCode};

/// Exit codes of all commands; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command did what it was asked for.
    Done = 0,
    /// A check or a measurement found something wrong.
    CheckFailed = 1,
    /// Usage, configuration, input file or data folder: the caller must change something before trying again.
    Usage = 2,
    /// The server, registry or broker does not answer; it may later.
    Unreachable = 3,
    /// The server, registry or broker answers that there is no such thing, or refuses.
    Refused = 4,
    /// The root supervisor gave up.
    GaveUp = 70,
    /// Somebody interrupted the command before it was done.
    Interrupted = 130,
}

impl Exit {
    /// The codes, as each `--help` ends with them.
    pub const HELP: &str = "Exit codes: 0 done, 1 a check failed, 2 usage, configuration or data folder, 3 server or \
                            broker not reachable, 4 not found or refused by the server, 70 gave up, 130 interrupted.";

    /// The end of a check.
    pub fn of_check(is_passed: bool) -> Self {
        if is_passed { Self::Done } else { Self::CheckFailed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// [`Exit::CheckFailed`]
    pub fn check(reason: impl fmt::Display) -> Self {
        Self { exit: Exit::CheckFailed, message: reason.to_string() }
    }

    /// [`Exit::Usage`]
    pub fn usage(reason: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: reason.to_string() }
    }

    /// [`Exit::Unreachable`]
    pub fn unreachable(reason: impl fmt::Display) -> Self {
        Self { exit: Exit::Unreachable, message: reason.to_string() }
    }

    /// [`Exit::Refused`]
    pub fn refused(reason: impl fmt::Display) -> Self {
        Self { exit: Exit::Refused, message: reason.to_string() }
    }

    /// Nobody reads what the command prints: it ends with [`Exit::Done`], and there is nothing to say.
    pub fn unread() -> Self {
        Self { exit: Exit::Done, message: String::new() }
    }

    /// The exit code that goes with it.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The same failure, told with more words.
    pub fn worded(self, words: impl FnOnce(String) -> String) -> Self {
        Self { exit: self.exit, message: words(self.message) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_each_code() {
        let codes = [
            Exit::Done,
            Exit::CheckFailed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Refused,
            Exit::GaveUp,
            Exit::Interrupted,
        ];
        let mut rest = Exit::HELP;
        for code in codes {
            let number = format!(" {} ", code as u8);
            rest = rest.split_once(&number).unwrap_or_else(|| panic!("{number} is not in {rest}")).1;
        }
    }

    #[test]
    fn more_words_do_not_change_the_code() {
        let failure = Failure::unreachable("nobody answers").worded(|reason| format!("the broker: {reason}"));
        assert_eq!((failure.exit(), failure.to_string().as_str()), (Exit::Unreachable, "the broker: nobody answers"));
    }
}
