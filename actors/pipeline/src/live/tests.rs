use proptest::prelude::*;

use super::*;

fn text(key: &str, offset: i64) -> ByteString {
    format!("{key}:{offset}").into()
}

fn publish(channel: &LiveChannel, offsets: std::ops::Range<i64>, keys: i64) {
    publish_of(channel, 0, offsets, keys);
}

fn publish_of(channel: &LiveChannel, log: i64, offsets: std::ops::Range<i64>, keys: i64) {
    let names: Vec<_> = offsets.map(|offset| (offset, format!("k{}", offset % keys))).collect();
    let of = (0, log);
    channel.publish(of, names.iter().map(|(offset, key)| LiveFrame { offset: *offset, key, text: text(key, *offset) }));
}

fn drain(subscription: &mut Subscription) -> Vec<LiveEvent> {
    std::iter::from_fn(|| subscription.try_recv()).collect()
}

#[test]
fn without_subscribers_the_frames_are_not_even_built() {
    let channel = LiveHub::default().channel("sensors");
    assert!(!channel.has_subscribers());
    channel.publish((0, 0), std::iter::from_fn(|| panic!("a frame was asked for")));
    drop(channel.subscribe(SubscriptionLimits::default()));
    assert!(!channel.has_subscribers());
}

#[test]
fn a_subscriber_that_keeps_up_gets_every_frame_in_order() {
    let channel = LiveHub::default().channel("sensors");
    let mut subscription = channel.subscribe(SubscriptionLimits::default());
    let mut got = Vec::new();
    for batch in 0..20 {
        publish(&channel, batch * 200..(batch + 1) * 200, 7);
        got.extend(drain(&mut subscription));
    }
    let expected: Vec<_> = (0..4000).map(|n| LiveEvent::Frame(text(&format!("k{}", n % 7), n))).collect();
    assert_eq!(got, expected);
}

#[test]
fn one_that_falls_behind_gets_the_gap_and_then_the_newest_frame_of_each_key() {
    let channel = LiveHub::default().channel("sensors");
    let mut subscription = channel.subscribe(SubscriptionLimits { queue: 10 });
    publish(&channel, 0..100, 3);
    let expected = [
        LiveEvent::Gap { dropped: 97 },
        LiveEvent::Frame(text("k1", 97)),
        LiveEvent::Frame(text("k2", 98)),
        LiveEvent::Frame(text("k0", 99)),
    ];
    assert_eq!(drain(&mut subscription), expected);
    assert_eq!(channel.counts().dropped, 97);
}

#[test]
fn with_more_keys_than_the_queue_holds_the_newest_stay() {
    let channel = LiveHub::default().channel("sensors");
    let mut subscription = channel.subscribe(SubscriptionLimits { queue: 2 });
    publish(&channel, 0..9, 9);
    let expected = [LiveEvent::Gap { dropped: 7 }, LiveEvent::Frame(text("k7", 7)), LiveEvent::Frame(text("k8", 8))];
    assert_eq!(drain(&mut subscription), expected);
}

#[test]
fn a_repeated_batch_is_not_seen_twice_until_the_log_is_another() {
    let channel = LiveHub::default().channel("sensors");
    let mut subscription = channel.subscribe(SubscriptionLimits::default());
    publish(&channel, 0..5, 1);
    publish(&channel, 3..7, 1);
    assert_eq!(drain(&mut subscription).len(), 7);
    publish_of(&channel, 1, 0..2, 1);
    assert_eq!(drain(&mut subscription).len(), 2);
}

#[test]
fn the_ring_and_a_stuck_subscriber_stay_within_their_bounds() {
    let channel = LiveHub::default().channel("sensors");
    let mut stuck = channel.subscribe(SubscriptionLimits::default());
    let large: ByteString = "x".repeat(10_000).into();
    for offset in 0..10_000 {
        channel.publish((0, 0), [LiveFrame { offset, key: &offset.to_string(), text: large.clone() }]);
    }
    assert!(channel.shared.ring.lock().bytes <= RING_BYTES);
    stuck.try_recv().expect("there is a gap to report");
    let held: usize =
        stuck.taken.iter().map(|event| if let LiveEvent::Frame(text) = event { text.len() } else { 0 }).sum();
    assert!((1..=BURST_BYTES).contains(&held), "{held}");
    drop(stuck);
    assert_eq!(channel.shared.ring.lock().frames.len(), 0);
}

#[test]
fn frames_that_large_ones_have_pushed_out_of_the_ring_are_a_gap_within_the_queue_as_well() {
    let channel = LiveHub::default().channel("sensors");
    let mut subscription = channel.subscribe(SubscriptionLimits { queue: RING_FRAMES });
    let large = |offset: i64| ByteString::from(format!("{offset}:{}", "x".repeat(MAX_FRAME_BYTES - 10)));
    let held = RING_BYTES / (MAX_FRAME_BYTES - 8);
    let published = 2 * held;
    for offset in 0..i64::try_from(published).unwrap() {
        channel.publish((0, 0), [LiveFrame { offset, key: "k", text: large(offset) }]);
    }
    let kept = channel.shared.ring.lock().frames.len();
    assert!((1..published).contains(&kept), "{kept} of {published}");
    let newest = large(i64::try_from(published).unwrap() - 1);
    let dropped = u64::try_from(published).unwrap() - 1;
    assert_eq!(drain(&mut subscription), [LiveEvent::Gap { dropped }, LiveEvent::Frame(newest)]);
}

#[test]
fn a_frame_over_the_limit_is_counted_and_not_shown() {
    let channel = LiveHub::default().channel("sensors");
    let mut subscription = channel.subscribe(SubscriptionLimits::default());
    channel.announce("k", "x".repeat(MAX_FRAME_BYTES + 1).into());
    assert_eq!(subscription.try_recv(), None);
    assert_eq!(channel.counts().dropped, 1);
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken_by_frames_and_by_the_end() {
    let hub = LiveHub::default();
    let channel = hub.channel("sensors");
    let mut subscription = channel.subscribe(SubscriptionLimits::default());
    let later = async { channel.announce("k", "now".into()) };
    let (event, ()) = tokio::join!(subscription.recv(), later);
    assert_eq!(event, LiveEvent::Frame("now".into()));
    let (event, ()) = tokio::join!(subscription.recv(), async { hub.close() });
    assert_eq!(event, LiveEvent::Closed);
}

proptest! {
    #[test]
    fn every_frame_is_either_seen_or_counted_and_each_key_stays_in_order(
        steps in prop::collection::vec((1..400i64, 0..80usize), 1..30),
        queue in 1..300usize,
    ) {
        let channel = LiveHub::default().channel("s");
        let mut subscription = channel.subscribe(SubscriptionLimits { queue });
        let (mut end, mut seen, mut dropped) = (0, Vec::new(), 0);
        let mut note = |event, dropped: &mut u64| match event {
            LiveEvent::Frame(text) => seen.push(text),
            LiveEvent::Gap { dropped: left_out } => *dropped += left_out,
            LiveEvent::Closed => {}
        };
        for (count, reads) in steps {
            publish(&channel, end..end + count, 5);
            end += count;
            for _ in 0..reads {
                if let Some(event) = subscription.try_recv() {
                    note(event, &mut dropped);
                }
            }
        }
        for event in drain(&mut subscription) {
            note(event, &mut dropped);
        }
        prop_assert_eq!(seen.len() as u64 + dropped, u64::try_from(end).expect("positive"));
        let offsets = |key: i64| -> Vec<i64> {
            let prefix = format!("k{key}:");
            seen.iter().filter_map(|text| text.strip_prefix(&prefix)?.parse().ok()).collect()
        };
        for key in 0..5 {
            let of_key = offsets(key);
            prop_assert!(of_key.is_sorted());
            if end > 4 {
                let newest = (end - 5..end).find(|offset| offset % 5 == key);
                prop_assert_eq!(of_key.last().copied(), newest.filter(|_| queue >= 5).or(of_key.last().copied()));
            }
        }
    }
}
