//! Who is served: authentication, its failures, its renewal, and what comes before it.

use std::io::{Read, Write};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use rdkafka::message::Message;
use ring::{digest, hmac, pbkdf2};
use streamward_broker::{AuthConfig, Internal, Mechanism, User};

use crate::raw::{Raw, batch, produce};
use crate::support::{Server, eventually, next};

const SASL_AUTHENTICATION_FAILED: i16 = 58;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;

/// A broker with the user `ann` and the password `pencil`.
pub fn guarded(max_session: Option<Duration>) -> Server {
    Server::start_with(|config| config.auth = Some(auth(max_session)))
}

pub fn auth(max_session: Option<Duration>) -> AuthConfig {
    AuthConfig {
        mechanisms: vec![Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512],
        users: vec![User::new("ann", "pencil"), User::new("bob", "eraser")],
        max_session,
    }
}

/// Requests of an authentication.
pub trait Sasl {
    fn handshake(&mut self, mechanism: &'static str, version: i16) -> SaslHandshakeResponse;
    fn token(&mut self, token: &[u8]) -> SaslAuthenticateResponse;
    fn plain(&mut self, user: &str, password: &str) -> SaslAuthenticateResponse;
    fn metadata(&mut self) -> MetadataResponse;
}

impl<S: Read + Write> Sasl for Raw<S> {
    fn handshake(&mut self, mechanism: &'static str, version: i16) -> SaslHandshakeResponse {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        self.send(ApiKey::SaslHandshake, version, &request);
        SaslHandshakeResponse::decode(&mut self.receive(), version).unwrap()
    }

    fn token(&mut self, token: &[u8]) -> SaslAuthenticateResponse {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(token.to_vec().into());
        self.send(ApiKey::SaslAuthenticate, 1, &request);
        SaslAuthenticateResponse::decode(&mut self.receive(), 1).unwrap()
    }

    fn plain(&mut self, user: &str, password: &str) -> SaslAuthenticateResponse {
        assert_eq!(self.handshake("PLAIN", 1).error_code, 0);
        self.token(format!("\0{user}\0{password}").as_bytes())
    }

    fn metadata(&mut self) -> MetadataResponse {
        self.send(ApiKey::Metadata, 1, &MetadataRequest::default().with_topics(None));
        MetadataResponse::decode(&mut self.receive(), 1).unwrap()
    }
}

#[test]
fn whoever_has_the_password_may_produce() {
    let server = guarded(None);
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.plain("ann", "pencil").error_code, 0);
    assert_eq!(produce(&mut raw, batch(0, 0)), (0, 0));
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_words_and_end() {
    let server = guarded(None);
    let mut said = Vec::new();
    for (user, password) in [("ann", "pencils"), ("eve", "pencil")] {
        let mut raw = Raw::connect(&server);
        let answer = raw.plain(user, password);
        assert_eq!(answer.error_code, SASL_AUTHENTICATION_FAILED);
        said.push(answer.error_message.unwrap().to_string());
        assert!(raw.is_closed());
    }
    assert_eq!(said[0], said[1]);
    assert!(!said[0].contains("pencil"));
    assert_eq!(server.broker.stats().failed_authentications, 2);
}

#[test]
fn nothing_is_produced_before_authentication() {
    let server = guarded(None);
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    let topic = kafka_protocol::messages::produce_request::TopicProduceData::default();
    let request = kafka_protocol::messages::ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
    raw.send(ApiKey::Produce, 7, &request);
    assert!(raw.is_closed());
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.handshake("PLAIN", 1).error_code, 0);
    raw.send(ApiKey::Metadata, 1, &MetadataRequest::default());
    assert!(raw.is_closed());
}

#[test]
fn versions_are_told_before_authentication() {
    let server = guarded(None);
    let mut raw = Raw::connect(&server);
    raw.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    let answer = ApiVersionsResponse::decode(&mut raw.receive(), 0).unwrap();
    assert!(answer.api_keys.iter().any(|api| api.api_key == ApiKey::SaslAuthenticate as i16));
    assert_eq!(raw.plain("ann", "pencil").error_code, 0);
}

#[test]
fn an_unknown_mechanism_is_answered_with_the_list() {
    let server = guarded(None);
    let mut raw = Raw::connect(&server);
    let answer = raw.handshake("GSSAPI", 1);
    assert_eq!(answer.error_code, UNSUPPORTED_SASL_MECHANISM);
    let names: Vec<String> = answer.mechanisms.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    assert!(raw.is_closed());
}

#[test]
fn a_broker_without_users_asks_for_no_authentication() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.handshake("PLAIN", 1).error_code, ILLEGAL_SASL_STATE);
    assert_eq!(raw.token(b"\0ann\0pencil").error_code, ILLEGAL_SASL_STATE);
    assert_eq!(raw.metadata().brokers.len(), 1);
}

#[test]
fn tokens_without_header_are_understood_after_the_oldest_handshake() {
    let server = guarded(None);
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.handshake("PLAIN", 0).error_code, 0);
    raw.0.write_all(b"\0\0\0\x0b\0ann\0pencil").unwrap();
    let mut answer = [9; 4];
    raw.0.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0; 4]);
    assert_eq!(raw.metadata().brokers.len(), 1);

    let mut raw = Raw::connect(&server);
    assert_eq!(raw.handshake("PLAIN", 0).error_code, 0);
    raw.0.write_all(b"\0\0\0\x0b\0ann\0pencim").unwrap();
    assert!(raw.is_closed());
}

/// The client's side of SCRAM: proves the password and demands the server's proof.
pub fn scram<S: Read + Write>(raw: &mut Raw<S>, (user, password): (&str, &str), mechanism: Mechanism) -> i16 {
    let (mac, pbkdf2, hash) = match mechanism {
        Mechanism::ScramSha256 => (hmac::HMAC_SHA256, pbkdf2::PBKDF2_HMAC_SHA256, &digest::SHA256),
        Mechanism::ScramSha512 => (hmac::HMAC_SHA512, pbkdf2::PBKDF2_HMAC_SHA512, &digest::SHA512),
        Mechanism::Plain => panic!("PLAIN is no SCRAM"),
    };
    let sign = |key: &[u8], data: &str| hmac::sign(&hmac::Key::new(mac, key), data.as_bytes()).as_ref().to_vec();
    assert_eq!(raw.handshake(mechanism.name(), 1).error_code, 0);
    let challenge = raw.token(format!("n,,n={user},r=fyko").as_bytes()).auth_bytes;
    let challenge = str::from_utf8(&challenge).unwrap();
    let parts: Vec<&str> = challenge.split(',').map(|part| &part[2..]).collect();
    assert!(parts[0].starts_with("fyko") && parts[0].len() > 20);
    let mut salted = vec![0; hash.output_len()];
    let salt = STANDARD.decode(parts[1]).unwrap();
    pbkdf2::derive(pbkdf2, parts[2].parse().unwrap(), &salt, password.as_bytes(), &mut salted);
    let key = sign(&salted, "Client Key");
    let last = format!("c=biws,r={}", parts[0]);
    let said = format!("n={user},r=fyko,{challenge},{last}");
    let signature = sign(digest::digest(hash, &key).as_ref(), &said);
    let proof: Vec<u8> = key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
    let answer = raw.token(format!("{last},p={}", STANDARD.encode(proof)).as_bytes());
    if answer.error_code == 0 {
        let server_signature = STANDARD.encode(sign(&sign(&salted, "Server Key"), &said));
        assert_eq!(answer.auth_bytes, format!("v={server_signature}"));
    }
    answer.error_code
}

#[test]
fn scram_proves_the_password_to_both_sides() {
    let server = guarded(None);
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let mut raw = Raw::connect(&server);
        assert_eq!(scram(&mut raw, ("ann", "pencil"), mechanism), 0);
        assert_eq!(raw.metadata().brokers.len(), 1);
        let mut raw = Raw::connect(&server);
        assert_eq!(scram(&mut raw, ("ann", "pen"), mechanism), SASL_AUTHENTICATION_FAILED);
        assert!(raw.is_closed());
    }
}

#[test]
fn a_session_that_has_expired_is_served_again_after_its_renewal_alone() {
    let server = guarded(Some(Duration::ZERO));
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.plain("ann", "pencil").error_code, 0);
    assert_eq!(raw.plain("ann", "pencil").error_code, 0, "a renewal after the end");
    raw.send(ApiKey::Metadata, 1, &MetadataRequest::default());
    assert!(raw.is_closed());
}

#[test]
fn a_session_is_renewed_by_its_own_user() {
    let server = guarded(Some(Duration::from_secs(3_600)));
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.plain("ann", "pencil").session_lifetime_ms, 3_600_000);
    assert_eq!(raw.metadata().brokers.len(), 1);
    assert_eq!(raw.plain("ann", "pencil").error_code, 0);
    assert_eq!(raw.metadata().brokers.len(), 1);
    assert_eq!(raw.plain("bob", "eraser").error_code, SASL_AUTHENTICATION_FAILED);
    assert!(raw.is_closed());
}

#[test]
fn a_client_that_never_authenticates_is_cut_off() {
    let server = Server::start_with(|config| {
        config.auth = Some(auth(None));
        config.handshake_timeout = Duration::from_millis(50);
    });
    let mut raw = Raw::connect(&server);
    assert!(raw.is_closed());
    let mut busy = Raw::connect(&server);
    eventually("the deadline ends also a client that keeps asking", || {
        busy.0.write_all(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff").err()
    });
}

#[test]
fn an_address_with_as_many_connections_as_it_may_have_gets_no_more() {
    let server = Server::start_with(|config| config.max_connections_per_ip = 2);
    let mut two = [Raw::connect(&server), Raw::connect(&server)];
    assert!(two.iter_mut().all(|raw| raw.metadata().brokers.len() == 1));
    assert!(Raw::connect(&server).is_closed());
    assert_eq!(server.broker.stats().refused_connections, 1);
    drop(two);
    eventually("there is room again", || {
        let mut raw = Raw::connect(&server);
        raw.send(ApiKey::Metadata, 1, &MetadataRequest::default());
        raw.0.read(&mut [0; 4]).ok().filter(|read| *read == 4)
    });
}

#[test]
fn own_clients_come_by_a_door_of_their_own() {
    let server = guarded(None);
    let (public, socket) = server.runtime.block_on(async {
        let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
        (bind().await.unwrap(), bind().await.unwrap())
    });
    let (public_address, address) = (public.local_addr().unwrap(), socket.local_addr().unwrap());
    let internal = Internal { socket, user: User::new("own", "secret") };
    let broker = server.broker.clone();
    server.runtime.spawn(async move { broker.serve_with(public, internal, std::future::pending()).await });

    let mut own = Raw::connect_to(&address.to_string());
    assert_eq!(own.plain("own", "secret").error_code, 0);
    let broker = &own.metadata().brokers[0];
    assert_eq!((broker.host.as_str(), broker.port), ("127.0.0.1", i32::from(address.port())));
    let mut neighbour = Raw::connect_to(&address.to_string());
    assert_eq!(neighbour.plain("ann", "pencil").error_code, 0);
    let mut stranger = Raw::connect_to(&address.to_string());
    assert_eq!(stranger.plain("own", "pencil").error_code, SASL_AUTHENTICATION_FAILED);
    let mut outside = Raw::connect_to(&public_address.to_string());
    assert_eq!(outside.plain("own", "secret").error_code, SASL_AUTHENTICATION_FAILED);
}

#[test]
fn own_clients_have_room_however_few_others_may_come() {
    let server = Server::start_with(|config| config.max_connections = 1);
    let (public, socket) = server.runtime.block_on(async {
        let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
        (bind().await.unwrap(), bind().await.unwrap())
    });
    let (public_address, address) =
        (public.local_addr().unwrap().to_string(), socket.local_addr().unwrap().to_string());
    let internal = Internal { socket, user: User::new("own", "secret") };
    let broker = server.broker.clone();
    server.runtime.spawn(async move { broker.serve_with(public, internal, std::future::pending()).await });

    let mut own = [Raw::connect_to(&address), Raw::connect_to(&address)];
    assert!(own.iter_mut().all(|raw| raw.plain("own", "secret").error_code == 0));
    let mut other = Raw::connect_to(&public_address);
    assert_eq!(other.metadata().brokers.len(), 1);
    assert!(Raw::connect_to(&public_address).is_closed());
}

#[test]
fn librdkafka_authenticates_by_plain() {
    let server = guarded(None);
    let sasl = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "ann"),
        ("sasl.password", "pencil"),
    ];
    let producer = server.producer(&sasl);
    assert_eq!(server.send(&producer, ("t", 0), &["x"]), [0]);
    let consumer = server.consumer("g", &sasl);
    rdkafka::consumer::Consumer::subscribe(&consumer, &["t"]).unwrap();
    assert_eq!(next(&consumer).payload(), Some(&b"x"[..]));
}
