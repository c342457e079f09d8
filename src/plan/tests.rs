use std::fs;

use super::{streams::table_name, *};

#[test]
fn tables_are_named_after_the_record() {
    assert_eq!(table_name("com.streaming.sensor.SensorReading"), "sensor_readings");
    assert_eq!(table_name("SeriesReading"), "series_readings");
    assert_eq!(table_name("News"), "news");
}

const NESTED: &str = r#"{"type": "record", "name": "Trip", "fields": [
    {"name": "a", "type": {"type": "record", "name": "A", "fields": [
        {"name": "b", "type": {"type": "record", "name": "B", "fields": [
            {"name": "depot", "type": "string"}, {"name": "who", "type": "string"}, {"name": "load", "type": "double"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}}]}},
    {"name": "note", "type": "string", "default": ""}]}"#;

/// The plan of this configuration, whose schema is [`NESTED`].
fn planned(yaml: &str) -> Result<Plan, Vec<Fault>> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("trip.avsc"), NESTED).unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, yaml).unwrap();
    let sources = Sources { file: Some(file), ..Sources::default() };
    load(&sources).map(|(_, plan)| plan).map_err(|faults| faults.named)
}

/// A configuration whose every field is named by `name`.
fn naming(name: impl Fn(&str) -> String) -> String {
    let [depot, who, load, at] = ["depot", "who", "load", "at"].map(name);
    format!(
        "streams:
  trips: {{ schema: trip.avsc, key: {who}, event_time: {at}, measure: {load}, indexes: [{depot}] }}
pipelines:
  trips:
    from: trips
    steps:
      - filter: {load} > 0 AND {depot} <> ''
      - window: {{ name: loads, group_by: [{depot}], select: {{ most: max({load}) }} }}
      - rule: {{ name: heavy, when: {load} > 9 }}
"
    )
}

/// What a plan means, however it is written.
fn unwritten(plan: &Plan) -> Definitions {
    let mut defined = plan.definitions();
    defined.pipelines.values_mut().for_each(|pipeline| pipeline.written.clear());
    defined
}

#[test]
fn what_people_wrote_is_known_by_what_was_planned_of_it() {
    let [short, long] = [str::to_owned, |name: &str| format!("a.b.{name}")].map(|name| {
        let written = planned(&naming(name)).unwrap().definitions().pipelines["trips"].written.clone();
        written.into_iter().collect::<Vec<_>>()
    });
    let texts = |pairs: &[(String, String)]| pairs.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
    let rule = "when load > 9 cooldown 5m behind filter load > 0 AND depot <> ''";
    let window = "with allowed_lateness 30s behind filter load > 0 AND depot <> ''";
    assert_eq!(texts(&short), ["max(load)", rule, window]);
    assert_eq!(
        texts(&long),
        [rule, window].map(|text| text.replace("load ", "a.b.load ").replace("depot", "a.b.depot"))
    );
}

#[test]
fn a_field_is_named_by_its_column_or_its_path_wherever_one_is_named() {
    let plain = planned(&naming(str::to_owned)).unwrap();
    for other in [|name: &str| format!("a.b.{name}"), |name: &str| format!("A.B.{}", name.to_uppercase())] {
        let plan = planned(&naming(other)).unwrap();
        assert_eq!(unwritten(&plan), unwritten(&plain));
        assert_eq!(plan.streams[0].table, plain.streams[0].table);
    }
}

#[test]
fn a_field_that_is_not_there_is_answered_with_the_nearest_at_its_place() {
    let faults = planned(&naming(|name| format!("a.b.{name}x"))).unwrap_err();
    let said: Vec<(&str, bool)> =
        faults.iter().map(|fault| (fault.path.as_str(), fault.message.contains("x', did you mean 'a.b."))).collect();
    let stream = ["key", "event_time", "indexes.0", "measure"].map(|key| format!("streams.trips.{key}"));
    assert_eq!(said, stream.each_ref().map(|path| (path.as_str(), true)));
    let steps = naming(str::to_owned)
        .replace("[depot], select", "[depot, depo, note], select")
        .replace("max(load)", "max(lod)");
    let faults = planned(&steps).unwrap_err();
    let said: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    assert_eq!(
        said,
        [
            "pipelines.trips.steps.1.window.group_by.1: unknown field 'depo', did you mean 'depot'?",
            "pipelines.trips.steps.1.window.select.most: unknown field 'lod', did you mean 'load'? (line 1, column 5)",
        ]
    );
}

#[test]
fn the_caret_of_a_fault_points_at_the_faulty_key_or_value() {
    let fault = |from: &str, to: &str| {
        let yaml = naming(str::to_owned).replace(from, to);
        let faults = planned(&yaml).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        let shown = faults[0].to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[2].find('^').unwrap();
        (faults[0].path.clone(), lines[1][caret..].to_owned())
    };
    let window = "pipelines.trips.steps.1.window";
    let cases = [
        ("name: loads", "name: loads, tumbling: 400d", format!("{window}.tumbling"), "400d"),
        ("[depot], s", "[depot, DEPOT], s", format!("{window}.group_by.1"), "DEPOT"),
        ("[depot], s", "[depot, load], s", format!("{window}.group_by.1"), "load]"),
        ("max(load)", "max(1 +)", format!("{window}.select.most"), "max(1 +)"),
        ("load > 9", "load + 9", "pipelines.trips.steps.2.rule.when".to_owned(), "load + 9"),
        ("event_time: at", "event_time: at, max_ahead: 400d", "streams.trips.max_ahead".to_owned(), "400d"),
        ("key: who", "key: load", "streams.trips.key".to_owned(), "load"),
    ];
    for (from, to, path, pointed) in cases {
        let (found, at) = fault(from, to);
        assert_eq!(found, path);
        assert!(at.starts_with(pointed), "{path}: {at}");
    }
}

#[test]
fn a_schema_file_is_named_with_all_its_faults_or_with_the_place_where_it_ends_to_be_json() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, naming(str::to_owned)).unwrap();
    let said = |schema: &str| {
        fs::write(folder.path().join("trip.avsc"), schema).unwrap();
        let faults = load(&Sources { file: Some(file.clone()), ..Sources::default() }).unwrap_err().named;
        faults.into_iter().map(|fault| (fault.path, fault.message)).collect::<Vec<_>>()
    };
    let two = NESTED.replace(r#""type": "double""#, r#""type": "bytes""#).replace(
        r#""name": "who", "type": "string""#,
        r#""name": "who", "type": {"type": "int", "logicalType": "time-millis"}"#,
    );
    let faults = said(&two);
    assert_eq!(faults.len(), 2, "{faults:?}");
    for ((path, message), begins) in
        faults.iter().zip(["trip.avsc: field a.b.who: time-millis is not", "trip.avsc: field a.b.load: bytes is not"])
    {
        assert!(path == "streams.trips.schema" && message.starts_with(begins), "{path}: {message}");
    }
    let faults = said("{\n\"type\": \"record\",\n]");
    assert!(
        faults.len() == 1 && faults[0].1.starts_with("trip.avsc: ") && faults[0].1.contains("line 3"),
        "{faults:?}"
    );
}
