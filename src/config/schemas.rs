//! The Avro schema files that streams name, with copies of the product's own inside the binary.

use std::io;
use std::path::{Path, PathBuf};

use super::{StreamConfig, files};

/// Largest schema file, in bytes.
const MAX_SCHEMA_BYTES: u64 = 1024 * 1024;
const EMBEDDED: [(&str, &str); 2] = [
    ("schemas/sensor_reading.avsc", include_str!("../../schemas/sensor_reading.avsc")),
    ("schemas/series_reading.avsc", include_str!("../../schemas/series_reading.avsc")),
];

/// Why a schema could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SchemaReadError {
    /// No such file, no permission, no regular file, too large, not UTF-8.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Reads schema files relative to the config file's folder.
///
/// A file comes before the copy of the same name inside the binary; with the built-in config the copy comes first.
#[derive(Debug, Clone)]
pub struct Schemas {
    folder: Option<PathBuf>,
}

impl Schemas {
    /// Reads relative to `folder`; none stands for the built-in config and the working folder.
    pub const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The schema's text.
    ///
    /// # Errors
    /// [`SchemaReadError`] if there is neither a readable file nor a copy inside the binary.
    pub fn read(&self, stream: &StreamConfig) -> Result<String, SchemaReadError> {
        let copy = embedded(&stream.schema);
        let path = match (&self.folder, copy) {
            (None, Some(text)) => return Ok(text.to_owned()),
            (None, None) => stream.schema.clone(),
            (Some(folder), _) => folder.join(&stream.schema),
        };
        match (read_file(&path), copy) {
            (Err(SchemaReadError::Unreadable { source, .. }), Some(text))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(text.to_owned())
            }
            (result, _) => result,
        }
    }
}

fn embedded(path: &Path) -> Option<&'static str> {
    let path = path.strip_prefix("./").unwrap_or(path);
    EMBEDDED.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| *text)
}

fn read_file(path: &Path) -> Result<String, SchemaReadError> {
    let text = files::read_text(path, MAX_SCHEMA_BYTES)
        .map_err(|source| SchemaReadError::Unreadable { path: path.to_owned(), source })?;
    // Some editors begin a text with a byte order mark, which is no JSON.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(schema: &str) -> StreamConfig {
        StreamConfig { schema: schema.into(), ..StreamConfig::default() }
    }

    #[test]
    fn the_products_schemas_need_no_files() {
        let text = Schemas::new(None).read(&stream("schemas/sensor_reading.avsc")).unwrap();
        assert!(text.contains("SensorReading"));
    }

    #[test]
    fn a_file_beside_the_config_comes_before_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = Schemas::new(Some(folder.path().to_owned()));
        let copy = schemas.read(&stream("schemas/series_reading.avsc")).unwrap();
        assert!(copy.contains("SeriesReading"));
        std::fs::create_dir(folder.path().join("schemas")).unwrap();
        std::fs::write(folder.path().join("schemas/series_reading.avsc"), "mine").unwrap();
        assert_eq!(schemas.read(&stream("./schemas/series_reading.avsc")).unwrap(), "mine");
        std::fs::write(folder.path().join("schemas/series_reading.avsc"), "\u{feff}marked").unwrap();
        assert_eq!(
            schemas.read(&stream("schemas/series_reading.avsc")).unwrap(),
            "marked",
            "without its byte order mark"
        );
    }

    #[test]
    fn a_pipe_is_no_schema() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("mine.avsc");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let error = Schemas::new(Some(folder.path().to_owned())).read(&stream("mine.avsc")).unwrap_err();
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
    }

    #[test]
    fn a_missing_schema_names_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = Schemas::new(Some(folder.path().to_owned()));
        let error = schemas.read(&stream("mine.avsc")).unwrap_err();
        assert!(error.to_string().contains("mine.avsc"), "{error}");
    }
}
