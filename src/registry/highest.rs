//! The highest schema id ever given, in a file beside the log.
//!
//! Producers keep the ids that they were told, and records keep theirs. So an id that is given again makes a reader take
//! one schema's bytes for another's, in silence. The topic may be deleted while nobody runs who remembers; this file then
//! still knows where to go on. One number serves all topics and clusters that a data folder meets: a gap between ids harms
//! nobody.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

/// The number, and where it is kept.
#[derive(Debug)]
pub struct HighestId {
    file: Option<PathBuf>,
    kept: u32,
}

impl HighestId {
    /// Kept in this file.
    ///
    /// # Errors
    /// If the file is there and is no number, or cannot be read: the message says what to do.
    pub fn in_file(file: PathBuf) -> Result<Self, String> {
        let shown = file.display();
        let kept = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| {
                format!(
                    "{shown} is not the number that was written to it: write the highest schema id ever given into it, or \
                     delete it where the schemas topic is whole"
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(format!("read {shown}: {error}")),
        };
        Ok(Self { file: Some(file), kept })
    }

    /// Kept as long as the process lives.
    #[cfg(test)]
    pub fn in_memory() -> Self {
        Self { file: None, kept: 0 }
    }

    /// The highest id ever given, as far as it was kept.
    #[must_use]
    pub fn kept(&self) -> u32 {
        self.kept
    }

    /// Keeps an id before it is given; a lower one changes nothing.
    ///
    /// # Errors
    /// If the file cannot be written; the id must not be given then.
    pub fn keep(&mut self, id: u32) -> Result<(), String> {
        if id <= self.kept {
            return Ok(());
        }
        if let Some(file) = &self.file {
            write(file, id).map_err(|error| format!("keep the highest schema id in {}: {error}", file.display()))?;
        }
        self.kept = id;
        Ok(())
    }
}

/// A reader sees the old number or the new one, also after a loss of power.
fn write(file: &std::path::Path, id: u32) -> io::Result<()> {
    let temporary = file.with_extension("tmp");
    let mut new = File::create(&temporary)?;
    writeln!(new, "{id}")?;
    new.sync_all()?;
    fs::rename(&temporary, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_id_is_there_when_the_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || HighestId::in_file(folder.path().join("highest")).unwrap();
        let mut highest = open();
        assert_eq!(highest.kept(), 0);
        highest.keep(7).unwrap();
        highest.keep(5).unwrap();
        assert_eq!((highest.kept(), open().kept()), (7, 7));
    }

    #[test]
    fn a_file_that_is_no_number_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("highest");
        fs::write(&file, "").unwrap();
        let refused = HighestId::in_file(file.clone()).unwrap_err();
        assert!(refused.contains(&file.display().to_string()) && refused.contains("or delete it"), "{refused}");
    }

    #[test]
    fn an_id_that_cannot_be_kept_is_not_taken_for_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut highest = HighestId::in_file(folder.path().join("gone/highest")).unwrap();
        assert!(highest.keep(1).unwrap_err().contains("gone/highest"));
        assert_eq!(highest.kept(), 0);
    }
}
