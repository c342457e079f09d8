//! WebSocket sessions, among them clients that never read.

use std::{
    io::BufReader,
    net::TcpStream,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use serde_json::Value;
use streamward_pipeline::live::{self, LiveFrame, SubscriptionLimits};

use super::{
    super::{HttpSettings, SocketSettings},
    client::{Running, read_frame, read_text, write_frame},
    fake::Fake,
};

fn publish(server: &Running, offsets: std::ops::Range<i64>) {
    let keys: Vec<_> = offsets.map(|offset| (offset, format!("sensor_{:03}", offset % 10))).collect();
    let data = |offset: i64| format!(r#"{{"offset":{offset},"pad":"{}"}}"#, "x".repeat(150));
    let frames = keys.iter().map(|(offset, key)| LiveFrame {
        offset: *offset,
        key,
        text: live::frame("sensor_reading", &data(*offset), "2025-01-01T00:00:00.000Z"),
    });
    server.live.channel("sensors").publish((0, 0), frames);
}

fn subscribers(server: &Running) -> usize {
    server.live.channel("sensors").counts().subscribers
}

fn hasty(ping_every: u64, silence_limit: u64, evict_after: u64) -> HttpSettings {
    let sockets = SocketSettings {
        ping_every: Duration::from_millis(ping_every),
        silence_limit: Duration::from_millis(silence_limit),
        evict_after: Duration::from_millis(evict_after),
        limits: SubscriptionLimits::default(),
    };
    HttpSettings { sockets, ..HttpSettings::default() }
}

#[test]
fn a_client_gets_each_frame_as_a_message_and_an_ack_for_its_text() {
    let server = Running::start();
    let (mut client, head) = server.socket("/ws/sensors", &[]);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    publish(&server, 0..3);
    for offset in 0..3 {
        let message: Value = serde_json::from_str(&read_text(&mut client)).unwrap();
        assert_eq!((&message["type"], &message["data"]["offset"]), (&"sensor_reading".into(), &offset.into()));
        assert_eq!(message["received_at"], "2025-01-01T00:00:00.000Z");
    }
    write_frame(&mut client, 1, b"hello");
    let ack: Value = serde_json::from_str(&read_text(&mut client)).unwrap();
    assert_eq!((&ack["type"], &ack["message"]), (&"ack".into(), &"connected".into()));
    assert!(ack["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let server = Running::start();
    let (mut polite, _) = server.socket("/ws/sensors", &[]);
    let (rude, _) = server.socket("/ws/sensors", &[]);
    server.wait_until("both watch", || subscribers(&server) == 2);
    write_frame(&mut polite, 8, &1000_u16.to_be_bytes());
    drop(rude);
    server.wait_until("both are gone", || subscribers(&server) == 0);
    while let Ok((opcode, _)) = read_frame(&mut polite) {
        assert!(matches!(opcode, 8 | 9), "pings and the answer to the close, nothing else");
    }
}

#[test]
fn unknown_streams_plain_requests_and_foreign_origins_get_no_socket() {
    let server = Running::start();
    assert!(server.socket("/ws/nothing", &[]).1.starts_with("HTTP/1.1 404"));
    assert!(server.socket("/ws/sensors", &[("Origin", "http://evil.example")]).1.starts_with("HTTP/1.1 403"));
    let plain = server.get("/ws/sensors");
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));
    assert_eq!(subscribers(&server), 0);
}

#[test]
fn without_room_for_a_session_the_client_is_told_to_come_later() {
    let fake = Fake { session_limit: 1, ..Fake::default() };
    let server = Running::with_fake(HttpSettings::default(), fake);
    let (_first, head) = server.socket("/ws/sensors", &[]);
    assert!(head.starts_with("HTTP/1.1 101"));
    assert!(server.socket("/ws/sensors", &[]).1.starts_with("HTTP/1.1 503"));
}

#[test]
fn a_client_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let server = Running::with(hasty(20, 500, 60_000));
    let (mut silent, _) = server.socket("/ws/sensors", &[]);
    let (mut alive, _) = server.socket("/ws/sensors", &[]);
    let mut pings = 0;
    while subscribers(&server) > 1 {
        let (opcode, payload) = read_frame(&mut alive).expect("it is open");
        assert_eq!(opcode, 9);
        write_frame(&mut alive, 10, &payload);
        pings += 1;
    }
    assert!(pings > 5);
    let closed = std::iter::from_fn(|| read_frame(&mut silent).ok()).find(|(opcode, _)| *opcode == 8);
    assert_eq!(closed.expect("a close frame").1[..2], 1008_u16.to_be_bytes());
    write_frame(&mut alive, 1, b"still here");
    loop {
        match read_frame(&mut alive).expect("it is open") {
            (1, _) => break,
            (opcode, payload) => {
                assert_eq!(opcode, 9);
                write_frame(&mut alive, 10, &payload);
            }
        }
    }
}

#[test]
fn shutdown_says_goodbye() {
    let server = Running::start();
    let (mut client, _) = server.socket("/ws/sensors", &[]);
    server.wait_until("it watches", || subscribers(&server) == 1);
    server.live.close();
    let closed = std::iter::from_fn(|| read_frame(&mut client).ok()).find(|(opcode, _)| *opcode == 8);
    assert_eq!(closed.expect("a close frame").1[..2], 1001_u16.to_be_bytes());
}

/// Reads frames up to an offset, telling how far it is, and answers how many were left out.
fn read_all(client: TcpStream, end: i64, progress: &AtomicI64) -> u64 {
    let mut writer = client.try_clone().expect("a second handle");
    let mut client = BufReader::new(client);
    let (mut next, mut dropped) = (0, 0);
    while next < end {
        let (opcode, payload) = read_frame(&mut client).expect("frames go on");
        if opcode == 9 {
            write_frame(&mut writer, 10, &payload);
            continue;
        }
        let message: Value = serde_json::from_slice(&payload).expect("JSON");
        if message["type"] == "gap" {
            dropped += message["dropped"].as_u64().expect("a number");
        } else {
            next = message["data"]["offset"].as_i64().expect("an offset") + 1;
            progress.store(next, Ordering::Relaxed);
        }
    }
    dropped
}

#[cfg(target_os = "linux")]
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// Stuck clients connect, ask for the stream and never read.
#[cfg(target_os = "linux")]
#[test]
fn clients_that_never_read_slow_nobody_and_are_cut_off() {
    const STUCK: usize = 200;
    const READERS: usize = 5;
    const FLOOD: i64 = 2_000;
    const FRAMES: i64 = 4_000;
    let server = Running::with(hasty(1_000, 60_000, 3_000));
    let channel = server.live.channel("sensors");
    let stuck: Vec<_> = (0..STUCK).map(|_| server.socket("/ws/sensors", &[]).0).collect();
    server.wait_until("all are connected", || subscribers(&server) == STUCK);
    publish(&server, 0..FLOOD);
    let mut end = FLOOD;
    while channel.counts().subscribers == STUCK && end < FLOOD + 40 * 100 {
        publish(&server, end..end + 40);
        end += 40;
        std::thread::sleep(Duration::from_millis(1));
    }
    let readers: Vec<_> = (0..READERS).map(|_| server.socket("/ws/sensors", &[]).0).collect();
    let before = open_files();
    let progress: [AtomicI64; READERS] = std::array::from_fn(|_| AtomicI64::new(end));
    std::thread::scope(|scope| {
        let last = end + FRAMES;
        let read = |(reader, at)| scope.spawn(move || read_all(reader, last, at));
        let readers: Vec<_> = readers.into_iter().zip(&progress).map(read).collect();
        for first in (end..last).step_by(40) {
            publish(&server, first..first + 40);
            server.wait_until("readers follow", || progress.iter().all(|at| at.load(Ordering::Relaxed) >= first));
        }
        for reader in readers {
            assert_eq!(reader.join().expect("a reader ends well"), 0, "a reader missed frames");
        }
    });
    server.wait_until("stuck sessions end", || subscribers(&server) == 0);
    server.wait_until("their connections are cut", || open_files() + STUCK <= before);
    drop(stuck);
}
