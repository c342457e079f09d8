//! TLS 1.2 and 1.3 in front of a listener, by rustls with ring.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore, ServerConfig};

use crate::error::OpenError;

/// How long before its end a certificate is said to end soon.
const ENDS_SOON: Duration = Duration::from_hours(14 * 24);

/// Whether a certificate is valid, by its own times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For longer than 14 days.
    Lasting,
    /// For at most 14 days.
    EndsSoon,
    Expired,
    NotYetValid,
}

/// What a listener shows its clients, and what it asks of them. All in PEM.
#[derive(Clone)]
pub struct TlsConfig {
    /// The broker's certificate first, then those that lead to its root.
    pub certificate: Vec<u8>,
    /// The private key of the first certificate: PKCS #8, PKCS #1 or SEC 1.
    pub key: Vec<u8>,
    /// Roots of the certificates that clients have to show; without them clients show none.
    pub client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

impl TlsConfig {
    /// Reads the texts and checks that the key fits the certificate.
    ///
    /// # Errors
    /// [`OpenError::Tls`] with the text that is at fault.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, OpenError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(OpenError::tls("protocol versions"))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for root in certificates("client CA", pem)? {
                    roots.add(root).map_err(OpenError::tls("client CA"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(OpenError::tls("client CA"))?)
            }
        };
        let chain = certificates("certificate", &self.certificate)?;
        // The reason of a failure would repeat parts of the text.
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| OpenError::tls("key")("no private key in this PEM text"))?;
        let config = builder.with_single_cert(chain, key).map_err(OpenError::tls("certificate and key"))?;
        Ok(Arc::new(config))
    }
}

impl TlsConfig {
    /// Whether a listener can be opened with it.
    ///
    /// # Errors
    /// [`OpenError::Tls`] with the text that is at fault.
    pub fn check(&self) -> Result<(), OpenError> {
        self.server().map(drop)
    }

    /// Whether clients that compare times take the certificate.
    ///
    /// # Errors
    /// [`OpenError::Tls`] if there is none in the text.
    pub fn validity(&self, now: SystemTime) -> Result<Validity, OpenError> {
        let chain = certificates("certificate", &self.certificate)?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = |time| complaint(&chain, time).map_err(OpenError::tls("certificate"));
        Ok(match (at(now)?, at(now + ENDS_SOON)?) {
            (Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }), _) => Validity::Expired,
            (Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }), _) => {
                Validity::NotYetValid
            }
            (_, Some(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => Validity::EndsSoon,
            _ => Validity::Lasting,
        })
    }
}

/// What a client that trusts the first certificate itself says of it at a time since 1970. Times come before all that
/// depends on who signed it, so that any other complaint says that they are in order.
fn complaint(chain: &[CertificateDer<'static>], at: Duration) -> Result<Option<CertificateError>, rustls::Error> {
    let Some((first, rest)) = chain.split_first() else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    roots.add(first.clone())?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
    let name = ServerName::try_from("localhost").map_err(|error| rustls::Error::General(error.to_string()))?;
    match verifier.verify_server_cert(first, rest, &name, &[], UnixTime::since_unix_epoch(at)) {
        Err(rustls::Error::InvalidCertificate(complaint)) => Ok(Some(complaint)),
        Ok(_) | Err(_) => Ok(None),
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(OpenError::tls(what))?;
    if found.is_empty() {
        return Err(OpenError::tls(what)("no certificate in this PEM text"));
    }
    Ok(found)
}

/// What TLS itself says about a failed handshake; none if the connection was lost.
pub(crate) fn fault(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
