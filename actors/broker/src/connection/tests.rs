//! What arrives before authentication, byte by byte.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::{AuthConfig, BrokerConfig, Mechanism, User};

/// Sends bytes to a connection that demands authentication and closes; what comes back.
fn answer_to(bytes: &[u8]) -> (Result<(), Ended>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::new(dir.path());
    let users = vec![User::new("ann", "pencil")];
    config.auth = Some(AuthConfig { mechanisms: vec![Mechanism::Plain], users, max_session: None });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let broker = Broker::open(config).unwrap();
        let client = Client::new("h".to_owned(), ("b".to_owned(), 1), broker.inner().access.metered);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (mut back, mut forth) = tokio::io::split(theirs);
        forth.write_all(bytes).await.unwrap();
        forth.shutdown().await.unwrap();
        let deadline = Instant::now() + broker.inner().config.handshake_timeout;
        let ended = converse(&broker, &broker.inner().access.clone(), client, (ours, deadline)).await;
        let mut answers = Vec::new();
        back.read_to_end(&mut answers).await.unwrap();
        (ended, answers)
    })
}

/// A request that an unauthenticated client may send, with a body of any bytes.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![Just(17_i16), Just(18), Just(36), any::<i16>()];
    let parts = (key, 0..4_i16, proptest::collection::vec(any::<u8>(), 0..64));
    parts.prop_map(|(key, version, body)| {
        let mut frame = vec![0; 4];
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&7_i32.to_be_bytes());
        frame.extend_from_slice(&body);
        let length = u32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_bytes_before_authentication_end_the_connection_alone(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..256),
            proptest::collection::vec(frame(), 1..6).prop_map(|frames| frames.concat()),
        ],
    ) {
        let (ended, answers) = answer_to(&bytes);
        prop_assert!(!matches!(ended, Err(Ended::Late(_))));
        prop_assert!(answers.len() < 64 << 10);
    }
}

#[test]
fn a_tls_client_on_a_plain_listener_is_named() {
    let (ended, answers) = answer_to(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    assert!(matches!(ended, Err(Ended::UnexpectedTls)));
    assert!(answers.is_empty());
}

#[test]
fn a_large_frame_is_not_awaited_before_authentication() {
    let (ended, _) = answer_to(&(1_u32 << 20).to_be_bytes());
    assert!(matches!(ended, Err(Ended::Malformed(_))));
}

#[test]
fn only_produce_may_be_large() {
    let limit = 32 << 20;
    let wanted = |start: &[u8]| bytes_to_read(start, limit).ok();
    assert_eq!(wanted(b"\0\0"), Some(LENGTH_END));
    assert_eq!(wanted(b"\0\x10\0\0"), Some(LENGTH_END + (1 << 20)), "as large as any may be");
    assert_eq!(wanted(b"\0\x10\0\x01"), Some(KEY_END), "the API decides");
    assert_eq!(wanted(b"\0\x10\0\x01\0\0"), Some(LENGTH_END + (1 << 20) + 1));
    assert_eq!(wanted(b"\0\x10\0\x01\0\x0f"), None);
    assert_eq!(wanted(b"\x02\0\0\x01\0\0"), None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_given_up_after_the_idle_limit() {
    let (ours, mut theirs) = tokio::io::duplex(1_000);
    let mut connection = Connection::new(ours);
    let begun = Instant::now();
    theirs.write_all(b"\0\0").await.unwrap();
    assert!(connection.next_frame(100).await.unwrap().is_none());
    assert_eq!(begun.elapsed().as_secs(), IDLE_LIMIT.as_secs());
}
