//! TLS towards the registry: rustls with ring.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::config::read_bytes;

/// Largest file with certificates, in bytes: several times what a system trusts.
const MAX_CA_BYTES: u64 = 8 << 20;

/// Trusts the certificates in a PEM file, or those that the system trusts.
///
/// # Errors
/// If there are none; the message says what to do.
pub fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca_file {
        Some(file) => from_file(file)?,
        None => of_system()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn from_file(file: &Path) -> Result<RootCertStore, String> {
    let fault = |reason: &dyn std::fmt::Display| format!("cannot use {}: {reason}", file.display());
    let mut roots = RootCertStore::empty();
    let pem = read_bytes(file, MAX_CA_BYTES).map_err(|error| fault(&error))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fault(&error))?;
        roots.add(certificate).map_err(|error| fault(&error))?;
    }
    if roots.is_empty() { Err(fault(&"it holds no certificate")) } else { Ok(roots) }
}

fn of_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system trusts no certificate: give the registry's with registry.ca_file".to_owned());
    }
    Ok(roots)
}
