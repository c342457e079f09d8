use super::*;

fn column(column: &str, field: &str, kind: &str) -> ColumnDefinition {
    ColumnDefinition { column: column.to_owned(), field: field.to_owned(), kind: kind.to_owned() }
}

fn before() -> Definitions {
    let stream = StreamDefinition {
        topic: "orders-topic".to_owned(),
        table: "orders".to_owned(),
        columns: vec![
            column("id_text", "id_text", "string"),
            column("code", "origin.code", "int"),
            column("at", "at", "timestamp"),
            column("value", "value", "double"),
        ],
        key: "id_text".to_owned(),
        event_time: "at".to_owned(),
        measure: Some("value".to_owned()),
    };
    let window = WindowDefinition {
        size_ms: 60_000,
        group: vec![column("code", "origin.code", "int")],
        select: vec![column("n", "count(*)", "long")],
    };
    let pipeline = PipelineDefinition {
        stream: "orders".to_owned(),
        windows: BTreeMap::from([("per_code".to_owned(), window)]),
        rules: vec!["too_hot".to_owned()],
        replay: BTreeMap::from([("rule too_hot".to_owned(), "when value".to_owned())]),
        written: BTreeMap::new(),
    };
    Definitions {
        streams: BTreeMap::from([("orders".to_owned(), stream)]),
        pipelines: BTreeMap::from([("orders".to_owned(), pipeline)]),
    }
}

fn stream(definitions: &mut Definitions) -> &mut StreamDefinition {
    definitions.streams.get_mut("orders").unwrap()
}

fn window(definitions: &mut Definitions) -> &mut WindowDefinition {
    definitions.pipelines.get_mut("orders").unwrap().windows.get_mut("per_code").unwrap()
}

/// The message of the only change that this difference makes.
fn refused(difference: impl FnOnce(&mut Definitions)) -> (Change, String) {
    let mut now = before();
    difference(&mut now);
    let changes = before().changes(&now);
    assert_eq!(changes.len(), 1, "{changes:#?}");
    let change = changes.into_iter().next().unwrap();
    let message = change.message("17");
    assert!(message.contains("17 rows"), "{message}");
    (change, message)
}

fn accepted(difference: impl FnOnce(&mut Definitions)) {
    let mut now = before();
    difference(&mut now);
    assert_eq!(before().changes(&now), []);
}

#[test]
fn what_stays_the_same_or_only_grows_is_accepted() {
    accepted(|_| {});
    accepted(|now| stream(now).columns.push(column("destination_code", "destination.code", "int")));
    accepted(|now| stream(now).columns.truncate(3));
    accepted(|now| stream(now).columns[1].kind = "long".to_owned());
    accepted(|now| stream(now).topic = "other-topic".to_owned());
    accepted(|now| now.pipelines.get_mut("orders").unwrap().rules.clear());
    accepted(|now| {
        let pipeline = now.pipelines.get_mut("orders").unwrap();
        let other = pipeline.windows["per_code"].clone();
        pipeline.windows.insert("another".to_owned(), WindowDefinition { size_ms: 300_000, ..other });
    });
    accepted(|now| drop(now.pipelines.get_mut("orders").unwrap().windows.remove("per_code")));
    accepted(|now| now.streams.clear());
}

#[test]
fn a_window_that_means_something_else_is_refused_with_a_new_name_or_leave_as_the_way() {
    type Differ = fn(&mut WindowDefinition);
    let differences: [(Differ, &str); 5] = [
        (|window| window.size_ms = 300_000, "lasts 1m, and is to last 5m"),
        (|window| window.group.clear(), "nothing"),
        (|window| window.group.push(column("id_text", "id_text", "string")), "`id_text` (string)"),
        (|window| window.select.push(column("mean", "avg(value)", "double")), "avg(value)"),
        (|window| window.select[0].field = "count(value)".to_owned(), "count(value)"),
    ];
    for (differ, word) in differences {
        let (change, message) = refused(|now| differ(window(now)));
        assert_eq!(change.allowed_by(), Some("window/per_code"));
        assert!(message.contains(word) && message.contains("another name"), "{message}");
    }
}

#[test]
fn a_window_of_that_name_over_another_stream_or_in_another_pipeline_is_told_apart() {
    accepted(|now| {
        let pipeline = now.pipelines.remove("orders").unwrap();
        now.pipelines.insert("renamed".to_owned(), pipeline);
    });
    let mut now = before();
    let other = StreamDefinition { table: "others".to_owned(), ..stream(&mut now).clone() };
    now.streams.insert("others".to_owned(), other);
    now.pipelines.get_mut("orders").unwrap().stream = "others".to_owned();
    let changes: Vec<(String, String)> =
        before().changes(&now).iter().map(|change| (change.subject.clone(), change.message("17"))).collect();
    assert_eq!(
        changes.iter().map(|(subject, _)| &**subject).collect::<Vec<_>>(),
        ["pipeline orders", "window per_code"]
    );
    assert!(changes.iter().all(|(_, message)| message.contains("stream orders") && message.contains("others")));
}

#[test]
fn streams_do_not_take_the_topics_of_others_nor_pipelines_their_positions() {
    let two = || {
        let mut two = before();
        let other = StreamDefinition { topic: "t2".to_owned(), table: "others".to_owned(), ..stream(&mut two).clone() };
        two.streams.insert("others".to_owned(), other);
        let pipeline = PipelineDefinition { stream: "others".to_owned(), ..two.pipelines["orders"].clone() };
        two.pipelines.insert("others".to_owned(), PipelineDefinition { windows: BTreeMap::new(), ..pipeline });
        two
    };
    let subjects = |now: &Definitions| two().changes(now).into_iter().map(|change| change.subject).collect::<Vec<_>>();
    assert_eq!(subjects(&two()), [""; 0]);
    let mut swapped = two();
    for (stream, pipeline) in [("orders", "others"), ("others", "orders")] {
        swapped.pipelines.get_mut(pipeline).unwrap().stream = stream.to_owned();
    }
    assert!(subjects(&swapped).starts_with(&["pipeline orders".to_owned()]), "{:?}", subjects(&swapped));
    let mut swapped = two();
    for (stream, topic) in [("orders", "t2"), ("others", "orders-topic")] {
        swapped.streams.get_mut(stream).unwrap().topic = topic.to_owned();
    }
    assert_eq!(subjects(&swapped), ["stream orders", "stream others"]);
}

#[test]
fn a_stream_and_a_window_do_not_take_the_tables_of_each_other() {
    let (change, message) = refused(|now| {
        now.pipelines.get_mut("orders").unwrap().windows.clear();
        let other = StreamDefinition { topic: "t2".to_owned(), table: "per_code".to_owned(), ..stream(now).clone() };
        now.streams.insert("others".to_owned(), other);
    });
    assert_eq!((&*change.path, &change.concerned), ("streams.others.table", &Concerned::Rows("per_code".to_owned())));
    assert!(message.contains("rows of window per_code"), "{message}");
    let (change, message) = refused(|now| {
        now.streams.clear();
        let pipeline = now.pipelines.get_mut("orders").unwrap();
        let window = pipeline.windows.remove("per_code").unwrap();
        pipeline.windows.insert("orders".to_owned(), window);
    });
    assert_eq!(
        (&*change.path, &change.concerned),
        ("pipelines.orders.windows.orders", &Concerned::Rows("orders".to_owned()))
    );
    assert!(message.contains("rows of stream orders"), "{message}");
}

#[test]
fn what_was_taken_out_is_remembered_as_long_as_it_is_not_defined_anew() {
    let mut without = before();
    stream(&mut without).columns.truncate(1);
    without.pipelines.get_mut("orders").unwrap().windows.clear();
    let remembered = without.and_before(&before());
    assert_eq!(remembered.streams["orders"].columns.len(), 4);
    assert_eq!(remembered.pipelines["orders"].windows, before().pipelines["orders"].windows);
    let mut back = before();
    window(&mut back).size_ms = 300_000;
    assert_eq!(remembered.changes(&back).len(), 1, "it means something else when it comes back");
    assert_eq!(Definitions::default().and_before(&before()), before());
    let mut renamed = before();
    let pipeline = renamed.pipelines.remove("orders").unwrap();
    renamed.pipelines.insert("renamed".to_owned(), pipeline);
    assert_eq!(renamed.and_before(&before()), renamed, "a pipeline has one name");
}

#[test]
fn rows_are_never_split_over_tables_nor_a_column_filled_from_another_field() {
    let (_, message) = refused(|now| stream(now).table = "new_orders".to_owned());
    assert!(message.contains("streams.orders.table: orders"), "{message}");
    let (_, message) = refused(|now| stream(now).columns[1].field = "destination.code".to_owned());
    assert!(message.contains("origin.code") && message.contains("destination.code"), "{message}");
    let (_, message) = refused(|now| stream(now).columns[1].kind = "string".to_owned());
    assert!(message.contains("int") && message.contains("string"), "{message}");
    let (_, message) = refused(|now| {
        let old = now.streams.remove("orders").unwrap();
        now.streams.insert("renamed".to_owned(), old);
        now.pipelines.clear();
    });
    assert!(message.contains("name the stream orders") && message.contains("streams.renamed.table"), "{message}");
}

#[test]
fn another_key_event_time_or_measure_is_refused() {
    let (change, message) = refused(|now| stream(now).key = "code".to_owned());
    assert_eq!((&*change.path, change.allowed_by()), ("streams.orders.key", None));
    assert!(message.contains("streams.orders.key: id_text"), "{message}");
    refused(|now| stream(now).event_time = "sent_at".to_owned());
    let (change, message) = refused(|now| stream(now).measure = None);
    assert_eq!(change.allowed_by(), Some("measure/orders"));
    assert!(message.contains("value") && message.contains("none"), "{message}");
}

#[test]
fn the_only_pipeline_of_a_stream_keeps_its_positions_under_another_name() {
    let rename = |now: &mut Definitions, to: &str| {
        let pipeline = now.pipelines.remove("orders").unwrap();
        now.pipelines.insert(to.to_owned(), pipeline);
    };
    let mut now = before();
    assert_eq!(before().renamed_pipelines(&now), []);
    rename(&mut now, "renamed");
    assert_eq!(before().renamed_pipelines(&now), [("orders".to_owned(), "renamed".to_owned())]);
    let twin = now.pipelines["renamed"].clone();
    now.pipelines.insert("twin".to_owned(), twin);
    assert_eq!(before().renamed_pipelines(&now), [], "nobody knows which of them it is");
}

#[test]
fn what_makes_another_state_of_records_that_are_read_again_is_told_with_its_pipeline_of_before() {
    let orders = |now: &mut Definitions| now.pipelines.remove("orders").unwrap();
    let with = |settings: &[(&str, &str)], name: &str| {
        let mut now = before();
        let mut pipeline = orders(&mut now);
        pipeline.replay.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        now.pipelines.insert(name.to_owned(), pipeline);
        now
    };
    accepted(|now| now.pipelines.get_mut("orders").unwrap().replay.clear());
    accepted(|now| *now = with(&[("window new", "with allowed_lateness 0ms")], "orders"));
    for name in ["orders", "renamed"] {
        let changes = before().changes(&with(&[("rule too_hot", "when other")], name));
        assert_eq!(changes.len(), 1, "{changes:#?}");
        assert_eq!(changes[0].concerned, Concerned::Replay("orders".to_owned()));
        assert_eq!(changes[0].allowed_by(), Some(&*format!("replay/{name}")));
        let message = changes[0].message("17");
        assert!(message.contains("17 records") && message.contains("when value, and is to be when other"), "{message}");
    }
    assert_eq!(Definitions::default().changes(&with(&[("rule too_hot", "when other")], "orders")), []);
}

#[test]
fn differences_are_told_in_the_words_that_people_wrote() {
    let said = |rule: &str, select: &str, texts: &[(&str, &str)]| {
        let mut defined = before();
        window(&mut defined).select[0].field = select.to_owned();
        let pipeline = defined.pipelines.get_mut("orders").unwrap();
        pipeline.replay.insert("rule too_hot".to_owned(), rule.to_owned());
        pipeline.written = texts.iter().map(|(planned, text)| ((*planned).to_owned(), (*text).to_owned())).collect();
        defined
    };
    let told = |before: &Definitions, now: &Definitions| {
        before.changes(now).iter().map(|change| change.difference.clone()).collect::<Vec<_>>().join(" | ")
    };
    let old = said(
        "when >(days, 60.0)",
        "sum(-(double(a), 1.0))",
        &[("when >(days, 60.0)", "when days > 60"), ("sum(-(double(a), 1.0))", "sum(a - 1.0)")],
    );
    let new = said(
        "when >(days, 70.0)",
        "sum(double(a))",
        &[("when >(days, 70.0)", "when 70 < days"), ("sum(double(a))", "sum( a )")],
    );
    let wanted = "it selects `n`: sum(a - 1.0) (long), and is to take `n`: sum( a ) (long) | \
                  rule too_hot was when days > 60, and is to be when 70 < days";
    assert_eq!(told(&old, &new), wanted);
    // A database that does not know them, and a field of another type: what is planned is told.
    let unknown = said("when >(days, 60.0)", "sum(double(a))", &[]);
    assert!(told(&unknown, &new).ends_with("was when >(days, 60.0), and is to be when 70 < days"));
    let whole = said("when >(days, 60)", "count(*)", &[("when >(days, 60)", "when days > 60")]);
    assert!(told(&old, &whole).ends_with("was when >(days, 60.0), and is to be when >(days, 60)"));
    let mut without = new.clone();
    without.pipelines.get_mut("orders").unwrap().windows.clear();
    assert!(told(&without.and_before(&old), &new).contains("it selects `n`: sum(a - 1.0)"), "kept with its window");
    assert_eq!(told(&old, &Definitions { pipelines: old.pipelines.clone(), ..new }), "");
}

#[test]
fn rules_that_a_pipeline_did_not_have_are_new() {
    let mut now = before();
    let mut pipeline = now.pipelines.remove("orders").unwrap();
    pipeline.rules.push("too_cold".to_owned());
    now.pipelines.insert("renamed".to_owned(), pipeline);
    assert_eq!(before().new_rules(&now), [("renamed".to_owned(), "too_cold".to_owned())]);
    assert_eq!(now.new_rules(&now), []);
    assert_eq!(Definitions::default().new_rules(&now), [], "a pipeline that is new has stored nothing");
}

#[test]
fn columns_are_known_by_their_fields() {
    let columns = before().columns_of("orders");
    assert_eq!(columns["origin.code"], "code");
    assert!(before().columns_of("nobody").is_empty());
}

#[test]
fn a_derived_column_may_have_another_name_and_not_another_expression() {
    let derived = |name: &str, expression: &str| {
        let mut defined = before();
        stream(&mut defined).columns.push(column(name, &format!("= {expression}"), "double"));
        stream(&mut defined).measure = Some(name.to_owned());
        defined.pipelines.get_mut("orders").unwrap().written.insert(expression.to_owned(), "kg * 2".to_owned());
        defined
    };
    let old = derived("twice", "*(/(grams, 1000.0), 2.0)");
    assert_eq!(old.changes(&derived("double_weight", "*(/(grams, 1000.0), 2.0)")), [], "also where it is the measure");
    let changes = old.changes(&derived("twice", "*(/(grams, 500.0), 2.0)"));
    assert_eq!(changes.len(), 1, "{changes:?}");
    // What people wrote is the same: what it stands for is told.
    let wanted = "column twice holds *(/(grams, 1000.0), 2.0), and *(/(grams, 500.0), 2.0) would be stored in it";
    assert_eq!((changes[0].difference.as_str(), changes[0].path.as_str()), (wanted, "streams.orders.derive.twice"));
    let other = old.changes(&derived("thrice", "*(grams, 3.0)"));
    assert_eq!(other.iter().map(Change::allowed_by).collect::<Vec<_>>(), [Some("measure/orders")]);
    assert!(!other[0].message("17").contains("set streams.orders.measure"), "there is no such column to keep");
}
