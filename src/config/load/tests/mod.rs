//! A config in a folder of its own, and what became of it.

mod built_in;
mod faults;
mod secrets;
mod values;

use std::fs;

use super::*;

struct Given {
    folder: tempfile::TempDir,
    sources: Sources,
}

fn given(yaml: &str) -> Given {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, yaml).unwrap();
    let sources = Sources { file: Some(file), ..Sources::default() };
    Given { folder, sources }
}

impl Given {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn set(mut self, path: &str, value: &str) -> Self {
        self.sources.sets.push((path.to_owned(), value.to_owned()));
        self
    }

    fn config(&self) -> Config {
        self.loaded().config
    }

    fn loaded(&self) -> Loaded {
        Config::load(&self.sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// What was read, whatever is at fault.
    fn loaded_anyway(&self) -> Loaded {
        Config::load_sound_parts(&self.sources).unwrap()
    }

    fn faults(&self) -> Vec<Fault> {
        Config::load(&self.sources).err().map_or_else(Vec::new, |faults| faults.named)
    }

    /// Each fault as `line:column path: message`, or with the override's name in front.
    fn lines(&self) -> Vec<String> {
        let file = self.sources.file.as_ref().unwrap().display().to_string() + ":";
        self.faults()
            .iter()
            .map(|fault| {
                let origin = fault.origin.strip_prefix(&file).unwrap_or(&fault.origin);
                format!("{origin} {}: {}", fault.path, fault.message)
            })
            .collect()
    }
}

const STREAM: &str = "streams:\n  a: { topic: a, schema: a.avsc, key: id }\npipelines:\n  a: { from: a }\n";
