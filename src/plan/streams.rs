//! The streams of a configuration, with their schemas and tables.
//!
//! A stream is read first, and its table settled when it is known which columns its pipeline makes.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use streamward_core::{
    decode::{DecodeLimits, Format},
    schema::{Kind, SchemaError, StreamSchema},
    table::StreamTable,
};

use crate::config::{Fault, Loaded, RecordFormat, StreamConfig};

/// Column that labels anomalies, where a stream has it.
const ANOMALY: &str = "anomaly";
/// Column that `stats` averages unless the stream names another.
const MEASURE: &str = "value";

/// A stream with its parsed schema.
#[derive(Debug, Clone)]
pub struct StreamSetup {
    pub name: Arc<str>,
    pub topic: Arc<str>,
    pub key: String,
    pub event_time: String,
    /// What its records are decoded to.
    pub schema: Arc<StreamSchema>,
    /// The columns of its rows: those of `schema`, then those that its pipeline makes.
    pub columns: Arc<StreamSchema>,
    pub table: StreamTable,
    pub format: Format,
    pub limits: DecodeLimits,
    pub config: StreamConfig,
}

/// A stream whose schema was read.
pub(super) struct Declared<'a> {
    pub(super) name: &'a str,
    config: &'a StreamConfig,
    schema: Arc<StreamSchema>,
    /// The columns of its rows, as far as they are known.
    pub(super) columns: Arc<StreamSchema>,
    key: usize,
    event_time: usize,
}

impl<'a> Declared<'a> {
    /// Reads a stream's schema; fields have the columns that they have in `columns`, if they do. Its pipeline makes the
    /// columns `made`.
    ///
    /// # Errors
    /// The faults of the schema, and of the settings that name columns which are neither there nor made.
    pub(super) fn read(
        loaded: &Loaded,
        (name, config): (&'a str, &'a StreamConfig),
        columns: &BTreeMap<String, String>,
        made: &[String],
    ) -> Result<Self, Vec<Fault>> {
        let fault = |key: &str, message: String| loaded.fault_at(&format!("streams.{name}.{key}"), message);
        let text = loaded.schemas().read(config).map_err(|error| vec![fault("schema", error.to_string())])?;
        let of_file = |error: SchemaError| fault("schema", format!("{}: {error}", config.schema.display()));
        let schema = StreamSchema::parse_with(&text, columns)
            .map_err(|error| error.each().into_iter().map(of_file).collect::<Vec<_>>())?;
        let mut faults = Vec::new();
        let mut column = |key: &str, column: &str| {
            schema.field_named(column).unwrap_or_else(|unknown| {
                faults.push(fault(key, unknown));
                0
            })
        };
        let (key, event_time) = (column("key", &config.key), column("event_time", &config.event_time));
        let is_made = |name: &str| made.iter().any(|made| made.eq_ignore_ascii_case(name));
        let indexes = config.indexes.iter().enumerate().map(|(place, name)| (format!("indexes.{place}"), name));
        for (key, name) in indexes.chain(config.measure.iter().map(|name| ("measure".to_owned(), name))) {
            if !is_made(name) {
                column(&key, name);
            }
        }
        if faults.is_empty() && !matches!(schema.fields[event_time].kind, Kind::Timestamp) {
            faults.push(fault("event_time", "the event time must be a timestamp-millis field".to_owned()));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let schema = Arc::new(schema);
        Ok(Self { name, config, columns: schema.clone(), schema, key, event_time })
    }

    /// What its records are decoded to.
    pub(super) fn schema(&self) -> &Arc<StreamSchema> {
        &self.schema
    }

    /// Its settings.
    pub(super) fn config(&self) -> &StreamConfig {
        self.config
    }

    /// Column of the key.
    pub(super) fn key(&self) -> &str {
        &self.schema.fields[self.key].column
    }

    /// Column of the event time.
    pub(super) fn event_time(&self) -> &str {
        &self.schema.fields[self.event_time].column
    }

    /// The column that `stats` averages, if there is one.
    pub(super) fn measure(&self) -> Option<String> {
        self.config.measure.clone().or_else(|| self.default_column(MEASURE, is_number))
    }

    /// The column that labels anomalies, if there is one.
    pub(super) fn anomaly(&self) -> Option<String> {
        self.default_column(ANOMALY, |kind| *kind == Kind::Boolean)
    }

    fn default_column(&self, name: &str, fits: impl Fn(&Kind) -> bool) -> Option<String> {
        let index = self.schema.column_index(name).filter(|index| fits(&self.schema.fields[*index].kind))?;
        Some(self.schema.fields[index].column.clone())
    }

    /// The stream with its table.
    pub(super) fn setup(self) -> StreamSetup {
        let place = |name: &str| self.columns.field_named(name).ok();
        let mut indexes = vec![self.key];
        for index in self.config.indexes.iter().filter_map(|name| place(name)) {
            if !indexes.contains(&index) {
                indexes.push(index);
            }
        }
        let measure = self.measure().and_then(|measure| place(&measure));
        let anomaly = self.anomaly().and_then(|anomaly| self.columns.column_index(&anomaly));
        let Self { name, config, schema, columns, key, event_time } = self;
        let (stream, topic): (Arc<str>, Arc<str>) = (name.into(), config.topic(name).into());
        let table = StreamTable {
            stream: stream.clone(),
            topic: topic.clone(),
            table: config.table.clone().unwrap_or_else(|| table_name(&schema.name)),
            columns: StreamTable::columns_of(&columns),
            key,
            event_time,
            max_ahead_ms: i64::try_from(Duration::from(config.max_ahead).as_millis()).unwrap_or(i64::MAX),
            measure,
            anomaly,
            indexes,
        };
        StreamSetup {
            name: stream,
            topic,
            key: schema.fields[key].column.clone(),
            event_time: schema.fields[event_time].column.clone(),
            schema,
            columns,
            table,
            format: match config.format {
                RecordFormat::Auto => Format::Auto,
                RecordFormat::Json => Format::Json,
                RecordFormat::Avro => Format::Avro,
            },
            limits: DecodeLimits { max_record_bytes: config.max_record.as_usize() },
            config: config.clone(),
        }
    }
}

impl StreamSetup {
    /// What to say where the topic has another number of partitions than the configuration: they are set when it is made.
    ///
    /// It is not grown: its keys would move, away from the state of their windows and rules.
    #[must_use]
    pub fn partitions_differ(&self, found: usize) -> Option<String> {
        let wanted = self.config.partitions as usize;
        let Self { name, topic, .. } = self;
        let way = match found.cmp(&wanted) {
            Ordering::Equal => return None,
            Ordering::Less => format!(
                "or add some with 'streamward topics alter {topic} --partitions {wanted}': keys move to other partitions then, \
                 where windows and rules know nothing of what came before"
            ),
            Ordering::Greater => "or give the stream another topic: partitions are never taken away".to_owned(),
        };
        Some(format!(
            "streams.{name}.partitions: {wanted} by the configuration, and topic {topic} has {found}: a topic keeps those that \
             it was made with; set partitions: {found}, {way}"
        ))
    }

    /// Why JSON values would be dead letters of this stream; none where it takes them.
    #[must_use]
    pub fn takes_no_json(&self) -> Option<String> {
        (self.format == Format::Avro).then(|| {
            format!(
                "stream {name} takes Avro alone, and this would write JSON: set streams.{name}.format: auto, or produce to \
                 its topic with a client that writes Avro",
                name = self.name
            )
        })
    }
}

fn is_number(kind: &Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Long | Kind::Float | Kind::Double)
}

/// `com.streaming.sensor.SensorReading` → `sensor_readings`.
pub(super) fn table_name(schema: &str) -> String {
    let name = schema.rsplit('.').next().unwrap_or(schema);
    let mut table = String::with_capacity(name.len() + 4);
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            table.push('_');
        }
        table.push(letter.to_ascii_lowercase());
    }
    if !table.ends_with('s') {
        table.push('s');
    }
    table
}
