//! TLS 1.2 and 1.3 in front of a listener, by rustls with ring.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::error::OpenError;

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
