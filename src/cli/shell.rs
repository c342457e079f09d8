//! `streamward completions` and `streamward man`: what shells and `man` know of the command line.

use std::{fs, path::PathBuf};

use clap::Args;
use clap_complete::Shell;

use super::{Exit, Failure};

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  streamward completions bash > /usr/share/bash-completion/completions/streamward\n  \
                  streamward completions zsh > ~/.zfunc/_streamward\n  \
                  streamward completions fish > ~/.config/fish/completions/streamward.fish"
)]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page, or write one for each command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  streamward man | man -l -\n  streamward man --dir /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write a page for each command into this folder, which is made if need be.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command_line(), "streamward", &mut script);
    super::say_bytes(&script)?;
    Ok(Exit::Done)
}

pub fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let command = super::command_line();
    match &args.dir {
        Some(folder) => {
            let unwritten =
                |error| Failure::usage(format_args!("write manual pages into {}: {error}", folder.display()));
            fs::create_dir_all(folder).map_err(unwritten)?;
            clap_mangen::generate_to(command, folder).map_err(unwritten)?;
        }
        None => {
            let mut page = Vec::new();
            let unwritten = |error| Failure::usage(format_args!("write the manual page: {error}"));
            clap_mangen::Man::new(command).render(&mut page).map_err(unwritten)?;
            super::say_bytes(&page)?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 12] = [
        "run",
        "check",
        "config",
        "replay",
        "verify",
        "bench",
        "schema",
        "topics",
        "tree",
        "drill",
        "completions",
        "man",
    ];

    /// Names of all commands, with those that they are below.
    fn commands(command: &clap::Command, above: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands() {
            let name = format!("{above}-{}", below.get_name());
            commands(below, &name, found);
            found.push(name);
        }
    }

    fn all() -> Vec<String> {
        let mut found = Vec::new();
        commands(&super::super::command_line(), "streamward", &mut found);
        assert!(COMMANDS.iter().all(|name| found.contains(&format!("streamward-{name}"))), "{found:?}");
        found
    }

    #[test]
    fn completions_of_each_shell_name_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut super::super::command_line(), "streamward", &mut script);
            let script = String::from_utf8(script).unwrap();
            let words: Vec<&str> = script.split(|letter: char| !letter.is_alphanumeric() && letter != '-').collect();
            for name in COMMANDS.iter().chain(&["tail", "register", "pipeline"]) {
                assert!(words.contains(name), "{shell}: {name}");
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page_with_the_exit_codes() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man1");
        assert_eq!(man(&ManArgs { dir: Some(pages.clone()) }), Ok(Exit::Done));
        for command in all() {
            let page = fs::read_to_string(pages.join(format!("{command}.1"))).unwrap();
            assert!(page.contains("Exit codes: 0 done"), "{command}: {page}");
        }
    }
}
