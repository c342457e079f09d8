use std::fs;
use std::path::PathBuf;

use apache_avro::types::{Record, Value as AvroValue};
use apache_avro::{Schema, Writer};
use serde_json::json;
use streamward_core::schema::StreamSchema;
use tempfile::TempDir;

use super::*;

/// 2014-07-01T00:00:00Z.
const JULY_MS: i64 = 1_404_172_800_000;
const HOUR_MS: i64 = 3_600_000;

struct Sample {
    _folder: TempDir,
    path: PathBuf,
    options: ReplayOptions,
}

impl Sample {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let options = ReplayOptions::series(&path);
        Self { _folder: folder, path, options }
    }

    fn map(mut self, maps: &[&str], constants: &[&str]) -> Self {
        self.options.mapping = ColumnMapping::parse(maps, constants).unwrap();
        self
    }

    fn open(&self) -> Result<Replay, ReplayError> {
        open(&self.path, &self.options)
    }

    fn results(&self) -> Vec<Result<ReplayRecord, ReplayError>> {
        self.open().unwrap().collect()
    }

    fn records(&self) -> Vec<Value> {
        self.results().into_iter().map(|record| Value::Object(record.unwrap().json)).collect()
    }

    /// The text of the error, the temporary folder taken out.
    fn refusal(&self) -> String {
        self.open().expect_err("refused").to_string().replace(&format!("{}/", self.folder()), "")
    }

    fn folder(&self) -> String {
        self.path.parent().unwrap().display().to_string()
    }

    /// Values of the good records, and the text of each error with whether it is a bad record.
    fn values_and_errors(&self) -> (Vec<Value>, Vec<(bool, String)>) {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for result in self.results() {
            match result {
                Ok(record) => values.push(record.json["value"].clone()),
                Err(error) => {
                    let text = error.to_string().replace(&format!("{}/", self.folder()), "");
                    errors.push((error.is_bad_record(), text));
                }
            }
        }
        (values, errors)
    }
}

fn two_readings(series: &str) -> Vec<Value> {
    vec![
        json!({"series": series, "timestamp": JULY_MS, "value": 10844}),
        json!({"series": series, "timestamp": JULY_MS + HOUR_MS, "value": 69.5}),
    ]
}

#[test]
fn what_cannot_be_read_twice_is_refused_with_a_way_out() {
    let device = Path::new("/dev/null");
    let options = ReplayOptions { format: Some(Format::Csv), ..ReplayOptions::series(device) };
    let refused = open(device, &options).unwrap_err().to_string();
    assert!(refused.contains("write it to a file first"), "{refused}");
}

#[test]
fn a_csv_of_time_and_value_becomes_the_series_named_as_the_file() {
    let sample = Sample::new("taxi.csv", "timestamp,value\n2014-07-01 00:00:00,10844\n2014-07-01 01:00:00,69.5\n");
    assert_eq!(sample.records(), two_readings("taxi"));
    let records = sample.results();
    assert_eq!(records[1].as_ref().unwrap().event_time_ms, JULY_MS + HOUR_MS);
    assert_eq!(records[1].as_ref().unwrap().number, 3);
}

#[test]
fn delimiters_endings_quotes_and_marks_of_other_programs_are_understood() {
    for (name, content) in [
        ("taxi.csv", "timestamp;value\r\n2014-07-01T00:00:00Z;10844\r\n1404176400;69.5\r\n"),
        ("taxi.tsv", "timestamp\tvalue\n1404172800000\t10844\n1404176400000\t69.5"),
        ("taxi.txt", "\u{feff}timestamp|value\n2014-07-01|10844\n2014-07-01 01:00|69.5\n"),
        (
            "taxi.CSV",
            "\"value\",\"timestamp\" ,\"a, note\"\n 10844 ,2014-07-01,\"x\ny\"\n\n69.5,2014-07-01 01:00:00,\n",
        ),
    ] {
        assert_eq!(Sample::new(name, content).records(), two_readings("taxi"), "{name} {content}");
    }
}

#[test]
fn the_same_two_readings_come_out_of_every_json_layout() {
    let (first, second) =
        (r#"{"timestamp":"2014-07-01 00:00:00","value":10844}"#, r#"{"value":69.5,"timestamp":1404176400000,"x":[1]}"#);
    for (name, content) in [
        ("taxi.jsonl", format!("{first}\n\n{second}")),
        ("taxi.ndjson", format!("\u{feff}{first}\r\n{second}\r\n")),
        ("taxi.json", format!("{first}\n{second}\n")),
        ("taxi.json", format!("[{first},{second}]")),
        ("taxi.json", format!("\u{feff}\n[\n  {first} ,\n  {second}\n]\n")),
        ("taxi.json", format!("{}\n{second}", first.replace(',', ",\n"))),
    ] {
        assert_eq!(Sample::new(name, &content).records(), two_readings("taxi"), "{name} {content}");
    }
}

fn avro_bytes(time_type: &str, times: [i64; 2]) -> Vec<u8> {
    let schema = format!(
        r#"{{"type":"record","name":"R","fields":[
            {{"name":"timestamp","type":{{"type":"long","logicalType":"{time_type}"}}}},
            {{"name":"inner","type":{{"type":"record","name":"I","fields":[{{"name":"value","type":["null","double"]}}]}}}}]}}"#
    );
    let schema = Schema::parse_str(&schema).unwrap();
    let mut writer = Writer::new(&schema, Vec::new()).unwrap();
    for (time, value) in times.into_iter().zip([10844.0, 69.5]) {
        let mut record = Record::new(writer.schema()).unwrap();
        let time = match time_type {
            "timestamp-millis" => AvroValue::TimestampMillis(time),
            _ => AvroValue::TimestampMicros(time),
        };
        record.put("timestamp", time);
        let value = AvroValue::Union(1, Box::new(AvroValue::Double(value)));
        record.put("inner", AvroValue::Record(vec![("value".to_owned(), value)]));
        writer.append_value(record).unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn an_avro_file_is_read_by_its_own_schema() {
    for (time_type, unit) in [("timestamp-millis", 1), ("timestamp-micros", 1000)] {
        let bytes = avro_bytes(time_type, [JULY_MS * unit, (JULY_MS + HOUR_MS) * unit]);
        let sample = Sample::new("taxi.avro", bytes).map(&["value=inner.value"], &["series=7"]);
        let records = sample.records();
        assert_eq!(records[0], json!({"series": "7", "timestamp": JULY_MS, "value": 10844.0}));
        assert_eq!(records[1]["timestamp"], JULY_MS + HOUR_MS);
    }
    let early = Sample::new("taxi.avro", avro_bytes("timestamp-millis", [5, 6])).map(&["value=inner.value"], &[]);
    assert_eq!(early.records()[0]["timestamp"], 5, "a declared unit is not guessed");
}

#[test]
fn a_cut_avro_file_gives_its_whole_blocks_and_then_ends() {
    let bytes = avro_bytes("timestamp-millis", [JULY_MS, JULY_MS]);
    let sample = Sample::new("taxi.avro", &bytes[..bytes.len() - 20]).map(&["value=inner.value"], &[]);
    let (values, errors) = sample.values_and_errors();
    assert_eq!((values.len(), errors.len()), (0, 1));
    assert!(!errors[0].0 && errors[0].1.starts_with("taxi.avro: record 1: "), "{errors:?}");
    let not_avro = Sample::new("taxi.avro", "timestamp,value\n").refusal();
    assert!(not_avro.starts_with("taxi.avro: is not a readable Avro file"), "{not_avro}");
}

#[test]
fn mapped_columns_and_constants_win_over_names_and_defaults() {
    let content = "series,when,reading,value\nown,2014-07-01,5,6\n";
    let own = Sample::new("a.csv", content).map(&["timestamp=when"], &[]);
    assert_eq!(own.records(), [json!({"series": "own", "timestamp": JULY_MS, "value": 6})]);
    let mapped = Sample::new("a.csv", content).map(&["timestamp=when", "value=reading"], &["series=x=y"]);
    assert_eq!(mapped.records(), [json!({"series": "x=y", "timestamp": JULY_MS, "value": 5})]);
}

#[test]
fn text_fields_stay_text_and_nested_fields_become_objects() {
    let schema = r#"{"type":"record","name":"S","fields":[
        {"name":"sensor_id","type":"string"},
        {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"value","type":"double"},
        {"name":"anomaly","type":"boolean","default":false},
        {"name":"note","type":["null","string"],"default":null},
        {"name":"metadata","type":{"type":"record","name":"M","fields":[{"name":"battery_level","type":"int"}]}}]}"#;
    let content = "sensor_id,timestamp,value,anomaly,note,metadata.battery_level\n007,1404172800,1e3,TRUE,,80\n";
    let mut sample = Sample::new("a.csv", content);
    sample.options = ReplayOptions::new(fields_of(schema), "timestamp");
    let expected = json!({"sensor_id": "007", "timestamp": JULY_MS, "value": 1000.0, "anomaly": true,
        "metadata": {"battery_level": 80}});
    assert_eq!(sample.records(), [expected]);
}

#[test]
fn a_record_field_is_filled_also_where_it_reuses_a_type_that_an_earlier_field_defined() {
    let schema = r#"{"type":"record","name":"S","namespace":"shop","fields":[
        {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"a","type":{"type":"record","name":"Pt","fields":[
            {"name":"x","type":"double"},{"name":"note","type":["null","string"],"default":null}]}},
        {"name":"side","type":{"type":"enum","name":"Side","symbols":["LEFT","RIGHT"]}},
        {"name":"b","type":"Pt"},
        {"name":"other","type":["null","Side"],"default":null},
        {"name":"c","type":"Pt","default":{"x":7.5}}]}"#;
    let content = "timestamp,a.x,side,b.x,b.note,other,c.x\n1404172800,1,LEFT,2,7,RIGHT,\n";
    let mut sample = Sample::new("a.csv", content);
    sample.options = ReplayOptions::new(fields_of(schema), "timestamp");
    let expected =
        json!({"timestamp": JULY_MS, "a": {"x": 1}, "side": "LEFT", "b": {"x": 2, "note": "7"}, "other": "RIGHT"});
    assert_eq!(sample.records(), [expected]);
}

fn fields_of(schema: &str) -> Vec<TargetField> {
    TargetField::of_stream(&StreamSchema::parse(schema).unwrap())
}

#[test]
fn the_fields_of_a_stream_tell_kind_and_need() {
    let fields = fields_of(
        r#"{"type":"record","name":"S","fields":[
            {"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}},
            {"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},
            {"name":"n","type":["null","long"]},
            {"name":"f","type":"float"},
            {"name":"b","type":"boolean","default":true}]}"#,
    );
    let expected = [
        TargetField::required("t", FieldKind::Time),
        TargetField::required("e", FieldKind::Text),
        TargetField::optional("n", FieldKind::Whole),
        TargetField::required("f", FieldKind::Number),
        TargetField::optional("b", FieldKind::Boolean),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn bad_csv_rows_are_named_and_the_next_row_follows() {
    let mut content = b"timestamp,value\n2014-07-01,1\nsoon,2\n2014-07-01,x\n2014-07-01\n2014-07-01,\n".to_vec();
    content.extend_from_slice(b"2014-07-01,NaN\n2014-07-01,\xff\n2014-07-01,8\n");
    let (values, errors) = Sample::new("a.csv", content).values_and_errors();
    assert_eq!(values, [json!(1), json!(8)]);
    let starts = [
        "a.csv:3: column `timestamp`: `soon` is not a time",
        "a.csv:4: column `value`: `x` is not a finite number",
        "a.csv:5: has 1 cells, the header line has 2",
        "a.csv:6: column `value`: is missing or empty",
        "a.csv:7: column `value`: `NaN` is not a finite number",
        "a.csv:8: is not UTF-8",
    ];
    assert_eq!(errors.len(), starts.len(), "{errors:?}");
    for ((bad_record, text), start) in errors.iter().zip(starts) {
        assert!(*bad_record && text.starts_with(start), "{text}");
    }
}

#[test]
fn a_quote_that_never_closes_ends_the_file_with_its_line_and_column() {
    let content = "series,timestamp,value\na,2014-07-01,1\n\"b\nc\",2014-07-01,2\n\"d,2014-07-01,3\ne,2014-07-01,4\n";
    let (values, errors) = Sample::new("a.csv", content).values_and_errors();
    assert_eq!(values, [json!(1), json!(2)]);
    let wanted = "a.csv:5: column `series`: a quote opens here and never closes; close it, or double a quote that is \
                  meant as text";
    assert_eq!(errors, [(false, wanted.to_owned())]);
    let header = Sample::new("a.csv", "timestamp,\"value\n2014-07-01,1\n").refusal();
    assert!(header.contains("header line has a quote that never closes, opened in line 1"), "{header}");
}

#[test]
fn blanks_inside_quotes_are_kept_and_others_are_not() {
    let content = "\u{feff}\"series\" , timestamp ,value\n\"  a b \"  , 2014-07-01 ,\" 1 \"\n  c d  ,2014-07-01,2\n";
    let records = Sample::new("a.csv", content).records();
    assert_eq!((&records[0]["series"], &records[0]["value"]), (&json!("  a b "), &json!(1)));
    assert_eq!(records[1]["series"], "c d");
}

#[test]
fn a_whole_number_may_have_a_fraction_of_zeros_and_no_other() {
    let mut sample = Sample::new(
        "a.csv",
        "series,timestamp,value\na,2014-07-01,5.0\na,2014-07-01,5.5\na,2014-07-01,-9223372036854775808\na,2014-07-01,1e30\n",
    );
    sample.options.fields[2].kind = FieldKind::Whole;
    let (values, errors) = sample.values_and_errors();
    assert_eq!(values, [json!(5), json!(i64::MIN)]);
    let errors: Vec<String> = errors.into_iter().map(|(_, text)| text).collect();
    let wanted = ["a.csv:3: column `value`: `5.5` is", "a.csv:5: column `value`: `1e30` is"];
    assert_eq!(errors, wanted.map(|start| format!("{start} not a whole number")));
}

#[test]
fn bad_json_lines_are_named_and_the_next_line_follows() {
    let content = r#"{"timestamp":1404172800,"value":1}
{"timestamp":1404172800,
[1]
{"timestamp":1404172800}
{"timestamp":null,"value":5}
{"timestamp":1404172800,"value":6} x
{"timestamp":1404172800,"value":7}"#;
    let (values, errors) = Sample::new("a.jsonl", content).values_and_errors();
    assert_eq!(values, [json!(1), json!(7)]);
    let places = ["a.jsonl:2:", "a.jsonl:3:", "a.jsonl:4:", "a.jsonl:5:", "a.jsonl:6:"];
    assert_eq!(errors.len(), places.len(), "{errors:?}");
    for ((bad_record, text), place) in errors.iter().zip(places) {
        assert!(*bad_record && text.starts_with(place), "{text}");
    }
}

#[test]
fn in_a_list_a_bad_field_is_one_record_but_broken_syntax_is_the_end() {
    let good = r#"{"timestamp":1404172800,"value":1}"#;
    let (values, errors) = Sample::new("a.json", format!("[{good},\n{{}},\n{good}]")).values_and_errors();
    assert_eq!(values, [json!(1), json!(1)]);
    assert!(errors[0].0 && errors[0].1.starts_with("a.json:2: column `"), "{errors:?}");
    for (content, place) in [
        (format!("[{good},\n{{\"value\" 1}},\n{good}]"), "a.json:2: is not a JSON object"),
        (format!("[{good},\n7]"), "a.json:2: expected an object, found `7`"),
        (format!("[{good},\n"), "a.json:2: the file ends within its list"),
    ] {
        let (values, errors) = Sample::new("a.json", content).values_and_errors();
        assert_eq!((values.len(), errors.len()), (1, 1), "{errors:?}");
        assert!(!errors[0].0 && errors[0].1.starts_with(place), "{errors:?}");
    }
}

#[test]
fn a_quote_or_line_without_end_is_not_gathered_without_end() {
    let long = "x".repeat(3 << 20);
    for (name, content) in [
        ("a.csv", format!("timestamp,value\n2014-07-01,\"{long}")),
        ("a.jsonl", format!("{{\"value\":\"{long}")),
        ("a.json", format!("[{{\"value\":\"{long}")),
    ] {
        let sample = Sample::new(name, content);
        let mut replay = sample.open().unwrap();
        let error = replay.next().unwrap().unwrap_err();
        assert!(!error.is_bad_record() && error.to_string().contains("longer than 1048576 bytes"), "{error}");
        assert!(replay.next().is_none());
        assert!(replay.bytes_read() < 2 << 20, "{name}: {}", replay.bytes_read());
    }
}

#[test]
fn what_does_not_fit_is_refused_at_the_start_with_a_way_out() {
    let header = "time,value\n";
    assert_eq!(
        Sample::new("a.csv", header).refusal(),
        "a.csv: there is no column `timestamp` for the field `timestamp`; its columns are time, value; \
         add --map timestamp=COLUMN or --const timestamp=VALUE"
    );
    let wrong_column = Sample::new("a.csv", header).map(&["timestamp=tim"], &[]).refusal();
    assert!(wrong_column.contains("no column `tim` for the field `timestamp`"), "{wrong_column}");
    let wrong_field = Sample::new("a.csv", header).map(&["time=time"], &[]).refusal();
    assert_eq!(wrong_field, "the stream has no field `time`; its fields are series, timestamp, value");
    let wrong_constant = Sample::new("a.csv", header).map(&["timestamp=time"], &["value=much"]).refusal();
    assert_eq!(wrong_constant, "--const value: `much` is not a finite number");
    assert!(Sample::new("a.csv", "").refusal().contains("is empty"));
    assert!(Sample::new("a.csv", "value,value\n").refusal().contains("`value` twice"));
    assert!(Sample::new("a.parquet", "").refusal().contains("does not tell the format"));
    assert!(Sample::new("a.csv", [0x1f, 0x8b, 8]).refusal().contains("gzip"));
    let mut missing = Sample::new("a.csv", header);
    missing.path.set_file_name("b.csv");
    assert!(missing.refusal().starts_with("b.csv: No such file"));
    missing.path = missing.path.parent().unwrap().to_owned();
    missing.options.format = Some(Format::Csv);
    assert!(missing.open().unwrap_err().to_string().contains("directory"));
}

#[test]
fn a_mapping_is_read_from_its_arguments() {
    let mapping = ColumnMapping::parse(&["value=a b", " timestamp =t=1"], &["series="]).unwrap();
    assert_eq!(mapping.columns["value"], "a b");
    assert_eq!(mapping.columns["timestamp"], "t=1");
    assert_eq!(mapping.constants["series"], "");
    assert_eq!(ColumnMapping::parse(&["value"], &[]), Err(MappingError::Syntax("value".to_owned())));
    assert_eq!(ColumnMapping::parse(&["=a"], &[]), Err(MappingError::Syntax("=a".to_owned())));
    assert_eq!(ColumnMapping::parse(&["value=a"], &["value=1"]), Err(MappingError::Twice("value".to_owned())));
}

#[test]
fn progress_grows_to_the_size_of_the_file() {
    let rows: String = (0..50_000).map(|row| format!("{},{row}\n", 1_404_172_800 + row)).collect();
    let sample = Sample::new("a.csv", format!("timestamp,value\n{rows}"));
    let mut replay = sample.open().unwrap();
    let mut seen = vec![replay.bytes_read()];
    while let Some(record) = replay.next() {
        record.unwrap();
        seen.push(replay.bytes_read());
    }
    assert_eq!(seen.len(), 50_001);
    assert!(seen.is_sorted() && seen[0] < replay.total_bytes() / 2);
    assert_eq!(replay.bytes_read(), replay.total_bytes());
}

#[test]
fn a_shifted_record_carries_its_new_time_in_its_json() {
    let sample = Sample::new("a.csv", "timestamp,value\n2014-07-01,1\n");
    let mut record = sample.results().remove(0).unwrap();
    record.set_event_time(7);
    assert_eq!(record.event_time_ms, 7);
    assert_eq!(record.json["timestamp"], 7);
}

/// Reads a shipped example whole: number of records, first and last time, and the times of values above a limit.
fn example(name: &str, limit: f64) -> (usize, i64, i64, Vec<i64>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let records: Vec<ReplayRecord> =
        open(&path, &ReplayOptions::series(&path)).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(records.is_sorted_by_key(|record| record.event_time_ms));
    let above = records.iter().filter(|record| record.json["value"].as_f64().unwrap() > limit);
    let above = above.map(|record| record.event_time_ms).collect();
    (records.len(), records[0].event_time_ms, records[records.len() - 1].event_time_ms, above)
}

#[test]
fn the_shipped_series_are_whole_and_breach_a_limit_in_a_labelled_window_only() {
    let time = |text: &str| parse_time_ms(text).unwrap();
    let (count, first, last, above) = example("ambient_temperature.csv", 82.0);
    assert_eq!((count, first, last), (7267, time("2013-07-04"), time("2014-05-28 15:00:00")));
    let failure = time("2013-12-15 07:00:00")..=time("2013-12-30 09:00:00");
    assert!(!above.is_empty() && above.iter().all(|time_ms| failure.contains(time_ms)));
    let (count, first, last, above) = example("nyc_taxi.csv", 32_000.0);
    assert_eq!((count, first, last), (10_320, time("2014-07-01"), time("2015-01-31 23:30:00")));
    let marathon = time("2014-10-30 15:30:00")..=time("2014-11-03 22:30:00");
    assert!(!above.is_empty() && above.iter().all(|time_ms| marathon.contains(time_ms)));
}

#[test]
fn fields_that_the_stream_does_not_have_are_named_with_the_records_that_had_them() {
    let named = |sample: &Sample| {
        let mut replay = sample.open().unwrap();
        replay.by_ref().for_each(drop);
        replay.ignored().names().iter().map(|(name, records)| format!("{name} {records}")).collect::<Vec<_>>()
    };
    let lines = "{\"timestamp\": 1, \"value\": 2, \"unit\": \"C\", \"deep\": {\"a\": 1}}\n{\"timestamp\": 2, \"value\": 2, \"unit\": \"C\"}\n{\"unit\": 1}\n";
    assert_eq!(named(&Sample::new("a.jsonl", lines)), ["deep 1", "unit 2"]);
    assert_eq!(
        named(
            &Sample::new("a.json", "[{\"timestamp\": 1, \"at\": {\"value\": 2, \"x\": 0}}]")
                .map(&["value=at.value"], &[])
        ),
        ["at.x 1"]
    );
    assert_eq!(named(&Sample::new("a.csv", ",timestamp,value,site\n0,1,2,hall\n1,2,2,\n")), ["site 2"]);
    assert!(named(&Sample::new("b.csv", "timestamp,value\n1,2\n")).is_empty());
}
