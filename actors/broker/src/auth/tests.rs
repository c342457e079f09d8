//! SCRAM against published messages, and sessions against every order of messages.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use proptest::prelude::*;

use super::scram::{Hash, MIN_ITERATIONS, Scram, ScramKeys};
use super::*;
use crate::error::Code;
use crate::wire::text;

/// Messages of one exchange as user `user` with password `pencil`.
struct Vector {
    hash: Hash,
    proof: &'static str,
    signature: &'static str,
}

/// RFC 7677, section 3.
const SHA256: Vector = Vector {
    hash: Hash::Sha256,
    proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    signature: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};
/// The same exchange with the longer hash; from Python's hashlib and hmac.
const SHA512: Vector = Vector {
    hash: Hash::Sha512,
    proof: "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
    signature: "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
};
const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=";

const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

fn users_with_known_salt() -> Users {
    let mut users = Users::new(&[User::new("user", "pencil")], &ALL).unwrap();
    for hash in [Hash::Sha256, Hash::Sha512] {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        users.set_keys("user", hash, ScramKeys::derive(hash, b"pencil", salt, MIN_ITERATIONS));
    }
    users
}

fn challenged(vector: &Vector, users: &Users) -> Scram {
    let mut scram = Scram::new(vector.hash, SERVER_NONCE.to_owned());
    assert_eq!(scram.step(FIRST, users), Step::Challenge(CHALLENGE.as_bytes().to_vec()));
    scram
}

#[test]
fn published_exchanges_are_repeated_to_the_letter() {
    let users = users_with_known_salt();
    for vector in [SHA256, SHA512] {
        let mut scram = challenged(&vector, &users);
        let last = format!("v={}", vector.signature).into_bytes();
        let done = Step::Done { user: "user".to_owned(), last };
        assert_eq!(scram.step(format!("{LAST}{}", vector.proof).as_bytes(), &users), done);
        assert!(matches!(scram.step(FIRST, &users), Step::Failed(_)), "nothing comes after the end");
    }
}

#[test]
fn a_final_message_that_differs_anywhere_is_refused() {
    let users = users_with_known_salt();
    let right = format!("{LAST}{}", SHA256.proof);
    for place in 0..right.len() {
        let mut wrong = right.clone().into_bytes();
        wrong[place] ^= 1;
        let mut scram = challenged(&SHA256, &users);
        assert!(matches!(scram.step(&wrong, &users), Step::Failed(_)), "byte {place}");
        assert!(matches!(scram.step(right.as_bytes(), &users), Step::Failed(_)), "no second try after byte {place}");
    }
}

#[test]
fn an_unknown_user_gets_the_same_challenge_each_time_and_fails_with_any_proof() {
    let users = users_with_known_salt();
    let ask = |name: &str| {
        let mut scram = Scram::new(Hash::Sha256, SERVER_NONCE.to_owned());
        let step = scram.step(format!("n,,n={name},r=abc").as_bytes(), &users);
        let Step::Challenge(bytes) = step else { panic!("{step:?}") };
        (scram, String::from_utf8(bytes).unwrap())
    };
    let (mut scram, challenge) = ask("nobody");
    assert_eq!(challenge, ask("nobody").1);
    assert_ne!(challenge, ask("somebody").1);
    assert!(challenge.ends_with(",i=4096"));
    let proof = STANDARD.encode([0; 32]);
    let last = format!("c=biws,r=abc{SERVER_NONCE},p={proof}");
    assert_eq!(scram.step(last.as_bytes(), &users), Step::Failed(WRONG_SECRET));
}

#[test]
fn first_messages_of_another_shape_are_refused() {
    let users = users_with_known_salt();
    let cases: [&[u8]; 12] = [
        b"",
        b"n",
        b"n,,",
        b"p=tls-unique,,n=user,r=abc",
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=,r=abc",
        b"n,,m=x,n=user,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2cer,r=abc",
        b"n,a=admin,n=user,r=abc",
        b"n,,n=\xff,r=abc",
    ];
    for case in cases {
        let mut scram = Scram::new(Hash::Sha256, SERVER_NONCE.to_owned());
        assert!(matches!(scram.step(case, &users), Step::Failed(_)), "{}", String::from_utf8_lossy(case));
    }
}

#[test]
fn commas_and_equals_signs_in_a_name_are_escaped() {
    let users = Users::new(&[User::new("a,b=c", "x")], &ALL).unwrap();
    let mut scram = Scram::new(Hash::Sha256, "s".to_owned());
    let challenge = scram.step(b"y,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=abc", &users);
    assert!(matches!(challenge, Step::Challenge(_)));
    assert!(users.scram_keys(Hash::Sha256, "a,b=c").is_known);
}

fn session(max_session: Option<Duration>) -> Session {
    let auth = Authenticator { mechanisms: ALL.to_vec(), users: users_with_known_salt(), max_session };
    Session::new(Arc::new(auth))
}

fn handshake(session: &mut Session, mechanism: &'static str) -> i16 {
    session.handshake(&SaslHandshakeRequest::default().with_mechanism(text(mechanism)), 1).error_code
}

#[test]
fn a_renewal_keeps_user_and_mechanism() {
    let now = Instant::now();
    let mut one = session(Some(Duration::from_secs(60)));
    assert_eq!(handshake(&mut one, "PLAIN"), 0);
    let done = Outcome::Authenticated(Vec::new(), Some(Duration::from_secs(60)));
    assert_eq!(one.authenticate(b"\0user\0pencil", now), done);
    assert!(!one.is_expired(now + Duration::from_secs(59)) && one.is_expired(now + Duration::from_secs(60)));

    assert_eq!(handshake(&mut one, "PLAIN"), 0);
    assert!(one.is_renewing());
    assert_eq!(one.authenticate(b"\0user\0pencil", now + Duration::from_secs(50)), done);
    assert!(!one.is_renewing() && !one.is_expired(now + Duration::from_secs(109)));

    assert_eq!(handshake(&mut one, "SCRAM-SHA-256"), Code::IllegalSaslState.code());
    assert!(one.has_failed());
}

#[test]
fn a_token_without_a_handshake_is_refused() {
    let mut one = session(None);
    let answer =
        one.answer(&SaslAuthenticateRequest::default().with_auth_bytes("\0user\0pencil".into()), Instant::now());
    assert_eq!(answer.error_code, Code::IllegalSaslState.code());
    assert!(one.has_failed() && one.user().is_none());
}

#[test]
fn mechanisms_are_listed_to_those_who_ask_for_another() {
    let answer = session(None).handshake(&SaslHandshakeRequest::default().with_mechanism(text("GSSAPI")), 1);
    assert_eq!(answer.error_code, Code::UnsupportedSaslMechanism.code());
    let names: Vec<String> = answer.mechanisms.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
}

/// Made once: deriving keys takes its time.
static AUTH: LazyLock<Arc<Authenticator>> = LazyLock::new(|| session(None).auth);

/// What somebody without the password may send.
#[derive(Debug, Clone)]
enum Move {
    Handshake(String, i16),
    Token(Vec<u8>),
    /// The proof of another exchange, overheard.
    Replay,
    /// The nonce of the last challenge with a made-up proof.
    Guess(Vec<u8>),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let name = prop_oneof![Just("PLAIN"), Just("SCRAM-SHA-256"), Just("SCRAM-SHA-512"), Just("GSSAPI")];
    let token = prop_oneof![
        Just(FIRST.to_vec()),
        Just(b"\0user\0pencils".to_vec()),
        Just(b"\0\0".to_vec()),
        Just(CHALLENGE.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..80),
    ];
    let one = prop_oneof![
        3 => (name, 0..2_i16).prop_map(|(name, version)| Move::Handshake(name.to_owned(), version)),
        3 => token.prop_map(Move::Token),
        1 => Just(Move::Replay),
        2 => proptest::collection::vec(any::<u8>(), 32).prop_map(Move::Guess),
    ];
    proptest::collection::vec(one, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_order_of_messages_authenticates_without_a_proof(moves in moves()) {
        let mut one = Session::new(AUTH.clone());
        let mut challenge = String::new();
        for each in moves {
            let token = match each {
                Move::Handshake(name, version) => {
                    one.handshake(&SaslHandshakeRequest::default().with_mechanism(text(name)), version);
                    continue;
                }
                Move::Token(token) => token,
                Move::Replay => format!("{LAST}{}", SHA256.proof).into_bytes(),
                Move::Guess(proof) => {
                    let nonce = challenge.split(',').next().unwrap_or_default();
                    format!("c=biws,{nonce},p={}", STANDARD.encode(proof)).into_bytes()
                }
            };
            let outcome = one.authenticate(&token, Instant::now());
            prop_assert!(!matches!(outcome, Outcome::Authenticated(..)));
            if let Outcome::Challenge(bytes) = outcome {
                challenge = String::from_utf8(bytes).unwrap();
            }
            prop_assert!(one.user().is_none());
        }
    }
}
