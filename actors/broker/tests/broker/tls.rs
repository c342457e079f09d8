//! TLS in front of the broker, with certificates made for each test.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use streamward_broker::{Broker, BrokerConfig, OpenError, TlsConfig};

use crate::raw::{Raw, batch, produce};
use crate::security::{Sasl, auth};
use crate::support::{Server, eventually};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        Signed { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    /// Settings of a broker with a certificate of this authority.
    fn server(&self, client_ca: Option<&Self>) -> TlsConfig {
        let own = self.sign();
        TlsConfig {
            certificate: own.certificate.pem().into_bytes(),
            key: own.key.serialize_pem().into_bytes(),
            client_ca: client_ca.map(|ca| ca.0.pem().into_bytes()),
        }
    }

    /// A connection of a client that trusts this authority and may show a certificate.
    fn connect(&self, server: &Server, shown: Option<&Signed>) -> Raw<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![own.certificate.der().clone()], key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Raw(StreamOwned::new(connection, Raw::connect(server).0))
    }
}

fn served(tls: TlsConfig) -> Server {
    Server::start_with(|config| config.tls = Some(tls))
}

#[test]
fn records_go_through_tls_and_authentication() {
    let authority = Authority::new();
    let server = Server::start_with(|config| {
        config.tls = Some(authority.server(None));
        config.auth = Some(auth(None));
    });
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = authority.connect(&server, None);
    assert_eq!(raw.plain("ann", "pencil").error_code, 0);
    for sequence in 0..20 {
        assert_eq!(produce(&mut raw, batch(0, sequence)), (0, i64::from(sequence)));
    }
}

#[test]
fn requests_and_answers_larger_than_the_buffers_of_tls_arrive_whole() {
    let authority = Authority::new();
    let server = Server::start_with(|config| {
        config.tls = Some(authority.server(None));
        config.auto_create_topics = false;
    });
    let name = |index| TopicName(StrBytes::from_string(format!("{index}-{}", "x".repeat(240))));
    let named = (0..2_000).map(|index| MetadataRequestTopic::default().with_name(Some(name(index))));
    let request = MetadataRequest::default().with_topics(Some(named.collect()));
    let mut raw = authority.connect(&server, None);
    raw.send(ApiKey::Metadata, 1, &request);
    let answer = MetadataResponse::decode(&mut raw.receive(), 1).unwrap();
    assert_eq!(answer.topics.len(), 2_000);
    assert!(server.broker.stats().bytes_out > 400_000);
}

#[test]
fn only_a_client_with_a_certificate_of_the_right_authority_is_served() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = served(authority.server(Some(&clients)));
    assert_eq!(authority.connect(&server, Some(&clients.sign())).metadata().brokers.len(), 1);
    for wrong in [None, Some(Authority::new().sign())] {
        let mut raw = authority.connect(&server, wrong.as_ref());
        // A request for versions; the refusal may come while it is written or afterwards.
        let _ = raw.0.write_all(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff");
        assert!(raw.is_closed());
    }
}

#[test]
fn a_plain_client_is_closed_by_a_listener_with_tls() {
    let server = served(Authority::new().server(None));
    let mut raw = Raw::connect(&server);
    raw.send(ApiKey::Metadata, 1, &MetadataRequest::default());
    eventually("the connection is closed", || raw.is_closed().then_some(()));
}

#[test]
fn a_tls_client_is_closed_by_a_listener_without() {
    let authority = Authority::new();
    let server = Server::start();
    let mut raw = authority.connect(&server, None);
    raw.0.flush().unwrap_err();
    assert!(raw.is_closed());
}

#[test]
fn a_handshake_that_never_ends_is_cut_off() {
    let tls = Authority::new().server(None);
    let server = Server::start_with(|config| {
        config.tls = Some(tls);
        config.handshake_timeout = Duration::from_millis(50);
    });
    let mut raw = Raw::connect(&server);
    raw.0.write_all(&[22, 3, 1]).unwrap();
    assert!(raw.is_closed());
}

#[test]
fn a_key_that_does_not_fit_is_refused_at_start() {
    let authority = Authority::new();
    let open = |change: &dyn Fn(&mut TlsConfig)| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::new(dir.path());
        let mut tls = authority.server(None);
        change(&mut tls);
        config.tls = Some(tls);
        match Broker::open(config) {
            Err(OpenError::Tls { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(open(&|tls| tls.key = authority.server(None).key), "certificate and key");
    assert_eq!(open(&|tls| tls.key = b"secret".to_vec()), "key");
    assert_eq!(open(&|tls| tls.certificate.clear()), "certificate");
    assert_eq!(open(&|tls| tls.client_ca = Some(b"nonsense".to_vec())), "client CA");
}
