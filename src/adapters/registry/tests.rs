//! The client against our own registry, and against one that fails, is slow, or is none.

use std::{
    collections::HashMap,
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    web::{self, Data},
};
use futures_util::future::join_all;
use streamward_kit::{ChildSpec, Runtime, SupervisorSpec};

use super::*;
use crate::{
    http::hosts::HostRule,
    registry::{
        ClusterIds, Definition, Force, Mode, Permanent, Reference, Registry, SchemaType, Submission, Visible, server,
        tests::{A, B_REQUIRED, Topic, avro, schema},
    },
};

/// The answer for a schema.
const INT: &str = r#"{"schema":"\"int\""}"#;
const TIMEOUT: Duration = Duration::from_secs(5);

fn settings(url: String) -> RegistrySettings {
    RegistrySettings { url, auth: RegistryAuth::None, ca_file: None, timeout: TIMEOUT }
}

/// A client whose worker runs.
fn client(settings: RegistrySettings) -> Arc<RegistryClient> {
    let client = Arc::new(RegistryClient::new(settings));
    let worker = client.clone();
    let role = ChildSpec::role("client", "registry", move |scope| worker.clone().run(scope));
    Runtime::start(SupervisorSpec::new("root").child(role)).unwrap();
    client
}

fn spawn(server: actix_web::dev::Server) {
    #[expect(clippy::disallowed_methods, reason = "a server beside the test, gone with its system")]
    actix_rt::spawn(server);
}

/// Our own registry behind HTTP.
fn own() -> (Registry, RegistrySettings) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let registry = Topic::default().open();
    spawn(server(registry.clone(), ClusterIds::default(), listener, HostRule::default(), 64).unwrap());
    (registry, settings(url))
}

/// What a made-up registry answers, and how often it was asked.
struct Fake {
    answers: Mutex<HashMap<String, (u16, String)>>,
    asked: AtomicUsize,
    /// The last `Authorization`.
    seen: Mutex<String>,
    /// Answers wait for a permit while this is closed.
    gate: tokio::sync::Semaphore,
}

impl Fake {
    fn start() -> (Arc<Self>, RegistrySettings) {
        let fake = Arc::new(Self {
            answers: Mutex::default(),
            asked: AtomicUsize::new(0),
            seen: Mutex::default(),
            gate: tokio::sync::Semaphore::new(1_000),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
        let shared = Data::from(fake.clone());
        let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(answer)));
        spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
        (fake, settings(url))
    }

    fn say(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().insert(format!("/apis/ccompat/v7{path}"), (status, body.to_string()));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(fake: Data<Fake>, request: HttpRequest) -> HttpResponse {
    fake.asked.fetch_add(1, Ordering::SeqCst);
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    *fake.seen.lock() = authorization.unwrap_or_default().to_owned();
    fake.gate.acquire().await.unwrap().forget();
    let unknown = (404, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned());
    let (status, body) = fake.answers.lock().get(request.path()).cloned().unwrap_or(unknown);
    HttpResponse::build(status.try_into().unwrap()).body(body)
}

#[actix_rt::test]
async fn schemas_are_registered_and_looked_up_at_our_own_registry() {
    let (registry, settings) = own();
    let client = client(settings);
    assert_eq!(client.register("s-value", &schema(A)).await, Ok(1));
    assert_eq!(client.register("s-value", &schema(A)).await, Ok(1));
    assert_eq!(registry.versions("s-value", Visible::Live).unwrap(), [1]);
    assert_eq!(client.schemas(&[1, 2]).await, Ok(vec![Some(schema(A).into()), None]));
    let refused = client.register("s-value", &schema(&format!("{A},{B_REQUIRED}"))).await.unwrap_err();
    assert!(matches!(&refused, RegisterError::Incompatible(reason) if reason.contains("'b'")), "{refused}");
    assert_eq!(client.register("odd / ? name", &schema(A)).await, Ok(1));
    assert_eq!(registry.subjects("odd", Visible::Live), ["odd / ? name"]);
}

#[actix_rt::test]
async fn references_are_put_in() {
    let (registry, settings) = own();
    registry.register("r", &avro(A)).unwrap();
    let references = vec![Reference { name: "R".to_owned(), subject: "r".to_owned(), version: 1 }];
    let definition = Definition { references, ..Definition::new(SchemaType::Avro, r#"["null","R"]"#) };
    let id = registry.register("u", &Submission { definition, ..avro("") }).unwrap().id;
    let whole = format!(r#"["null",{}]"#, schema(A));
    assert_eq!(client(settings).schemas(&[id]).await, Ok(vec![Some(whole.into())]));
}

/// A kind of error, from its text.
type Kind = fn(String) -> RegisterError;

#[actix_rt::test]
async fn a_refusal_says_what_kind_it_is_with_the_subject_the_address_and_the_setting() {
    let (fake, settings) = Fake::start();
    let client = client(settings);
    let cases: [(u16, u32, Kind, &str); 8] = [
        (409, 409, RegisterError::Incompatible, "error code 409"),
        (422, 42201, RegisterError::Refused, "error code 42201"),
        (422, 42205, RegisterError::NotWritable, "error code 42205"),
        (403, 40301, RegisterError::NotWritable, "registry.auth may not write"),
        (405, 405, RegisterError::NotWritable, "registry.auth may not write"),
        (401, 401, RegisterError::Refused, "registry.auth has no credentials"),
        (404, 404, RegisterError::Refused, "registry.url names no schema registry"),
        (500, 50001, RegisterError::Unavailable, "said so"),
    ];
    for (status, code, kind, wanted) in cases {
        let body = format!(r#"{{"error_code":{code},"message":"said so"}}"#);
        fake.say("/subjects/s%2Dvalue/versions", status, &body);
        let why = client.register("s-value", "{}").await.unwrap_err();
        let text = why.to_string();
        assert_eq!(why, kind(text.clone()), "{status} {code}");
        assert!(text.contains("said so") && text.contains(wanted) && text.contains("/apis/ccompat/v7"), "{text}");
        assert!(status == 500 || text.contains("s%2Dvalue"), "{text}");
    }
}

#[actix_rt::test]
async fn a_schema_that_is_not_taken_is_known_by_a_version_that_was_deleted() {
    let (registry, settings) = own();
    let client = client(settings);
    let id = registry.register("s", &avro(A)).unwrap().id;
    assert_eq!(client.known("s", &schema(A)).await, Ok(Some(id)));
    registry.delete_subject("s", Permanent(false)).unwrap();
    assert_eq!(client.known("s", &schema(A)).await, Ok(Some(id)));
    registry.delete_subject("s", Permanent(true)).unwrap();
    assert_eq!(client.known("s", &schema(A)).await, Ok(None));
    registry.register("s", &avro(A)).unwrap();
    registry.set_mode(Some("s"), Mode::ReadOnly, Force::No).unwrap();
    let other = schema(&format!("{A},{B_REQUIRED}"));
    let why = client.register("s", &other).await.unwrap_err();
    assert!(matches!(&why, RegisterError::NotWritable(why) if why.contains("read-only")), "{why}");
    let why = client.known("s", &other).await.unwrap_err();
    assert!(matches!(&why, RegisterError::Incompatible(why) if why.contains("'b'")), "{why}");
}

#[actix_rt::test]
async fn an_unknown_id_is_asked_for_once_and_a_known_one_too() {
    let (fake, settings) = Fake::start();
    fake.say("/schemas/ids/1", 200, INT);
    let client = client(settings);
    for _ in 0..3 {
        assert_eq!(client.schemas(&[1, 9]).await, Ok(vec![Some("\"int\"".into()), None]));
    }
    assert_eq!(fake.asked(), 2);
}

#[actix_rt::test]
async fn many_who_need_one_schema_cause_one_request() {
    let (fake, settings) = Fake::start();
    fake.say("/schemas/ids/1", 200, INT);
    let client = client(settings);
    let closed = fake.gate.forget_permits(1_000);
    let waiting = join_all((0..50).map(|_| client.schemas(&[1])));
    let open = async {
        while fake.asked() == 0 {
            tokio::task::yield_now().await;
        }
        fake.gate.add_permits(closed);
    };
    let (found, ()) = futures_util::join!(waiting, open);
    assert!(found.iter().all(|found| *found == Ok(vec![Some("\"int\"".into())])));
    assert_eq!(fake.asked(), 1);
}

#[actix_rt::test]
async fn an_answer_that_says_nothing_of_the_schema_is_no_unknown_id() {
    let (fake, settings) = Fake::start();
    let client = client(settings);
    let faults = [
        (500, r#"{"error_code":50001,"message":"Error in the backend data store"}"#),
        (503, "down"),
        (429, "slowly"),
        (401, r#"{"error_code":401,"message":"Unauthorized"}"#),
        (403, "no"),
        (404, "<html>nothing here</html>"),
        (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
        (200, "<html>log in</html>"),
        (200, "{}"),
    ];
    for (status, body) in faults {
        fake.say("/schemas/ids/1", status, body);
        let found = client.schemas(&[1]).await;
        assert!(found.is_err(), "{status} {body}: {found:?}");
    }
    fake.say("/schemas/ids/1", 200, INT);
    assert_eq!(client.schemas(&[1]).await, Ok(vec![Some("\"int\"".into())]));
}

#[actix_rt::test]
async fn silence_is_an_error_after_the_timeout_and_nobody_there_at_once() {
    let (fake, settings) = Fake::start();
    fake.gate.forget_permits(1_000);
    let client_of_silent = client(RegistrySettings { timeout: Duration::from_millis(100), ..settings });
    assert!(client_of_silent.schemas(&[1]).await.is_err());
    let registered = client_of_silent.register("s", "\"int\"").await;
    assert!(matches!(registered, Err(RegisterError::Unavailable(_))), "{registered:?}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(client(super::tests::settings(format!("http://{nobody}"))).schemas(&[1]).await.is_err());
}

#[actix_rt::test]
async fn credentials_are_sent_and_not_shown() {
    let basic = RegistryAuth::Basic { user: "me".to_owned(), password: "hunter2".to_owned() };
    let cases = [(basic, "Basic bWU6aHVudGVyMg=="), (RegistryAuth::Bearer("hunter2".to_owned()), "Bearer hunter2")];
    for (auth, header) in cases {
        let (fake, settings) = Fake::start();
        let settings = RegistrySettings { auth, ..settings };
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(client(settings).schemas(&[1]).await, Ok(vec![None]));
        assert_eq!(*fake.seen.lock(), header);
    }
}

/// Answers every connection over TLS with a schema, with a certificate that signs itself.
async fn tls_registry(folder: &std::path::Path) -> RegistrySettings {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca_file = folder.join("ca.pem");
    std::fs::write(&ca_file, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            let _read = stream.read(&mut head).await;
            let length = INT.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{INT}");
            let _gone = stream.write_all(answer.as_bytes()).await;
            let _gone = stream.shutdown().await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "a server beside the test, gone with its system")]
    actix_rt::spawn(serve);
    RegistrySettings { ca_file: Some(ca_file), ..settings(format!("https://localhost:{port}")) }
}

#[actix_rt::test]
async fn a_registry_with_a_certificate_of_its_own_is_trusted_by_its_ca_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = tls_registry(folder.path()).await;
    assert_eq!(client(settings.clone()).schemas(&[1]).await, Ok(vec![Some("\"int\"".into())]));
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca_file = folder.path().join("other.pem");
    std::fs::write(&ca_file, other.cert.pem()).unwrap();
    assert!(client(RegistrySettings { ca_file: Some(ca_file), ..settings }).schemas(&[1]).await.is_err());
}

#[test]
fn a_file_without_certificates_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "nothing").unwrap();
    let settings = RegistrySettings { ca_file: Some(file), ..settings("https://localhost:1".to_owned()) };
    let refused = RegistryHttp::new(&settings).map(drop).unwrap_err();
    assert!(refused.contains("empty.pem"), "{refused}");
}
