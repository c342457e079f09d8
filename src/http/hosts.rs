//! Which hosts a server answers to, and whose pages may use it.
//!
//! A page on another site reaches loopback by DNS rebinding: its browser then sends the page's host name in `Host`. So
//! a loopback listener answers, reads included, only to loopback names with its own port and to configured names. Other
//! listeners are reached under names that the server cannot know: there `Host` is checked where state changes or a
//! WebSocket opens. A browser names the page's origin in `Origin`, and another service on this machine is another origin.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::{
    StatusCode,
    header::{self, HeaderMap, HeaderValue},
};

use super::problem::Problem;

/// What a request does, as far as its host matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Read,
    /// Changes state or opens a WebSocket.
    Change,
}

/// Host names and origins that a server answers to.
#[derive(Debug, Clone, Default)]
pub struct HostRule {
    /// Names without ports, in lower case.
    names: Vec<String>,
    origins: Vec<Origin>,
    /// Port of a loopback listener; none for any other listener.
    loopback_port: Option<u16>,
}

/// Scheme, name and port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    name: String,
    port: u16,
}

impl HostRule {
    /// Loopback names, further host names (a port is ignored), and origins (`https://ops.example.org`), whose host
    /// names are answered to as well.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>, origins: impl IntoIterator<Item = String>) -> Self {
        let origins: Vec<Origin> = origins.into_iter().filter_map(|text| Origin::parse(&text)).collect();
        let names = names.into_iter().map(|name| split(&name).0.to_ascii_lowercase()).collect();
        Self { names, origins, loopback_port: None }
    }

    /// The rule of the listener at this address.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Self {
        Self { loopback_port: address.ip().is_loopback().then(|| address.port()), ..self }
    }

    /// # Errors
    /// 403 if `Host` is missing or not ours, or a change comes from a page whose origin is not ours.
    pub fn check(&self, headers: &HeaderMap, purpose: Purpose) -> Result<(), Problem> {
        let host = host(headers);
        let is_checked = purpose == Purpose::Change || self.loopback_port.is_some();
        if is_checked && !self.is_our_host(host) {
            return Err(refused(format!("this server does not answer to the host '{host}'; see http.allowed_hosts")));
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if purpose == Purpose::Change && !self.is_our_origin(origin, host) => {
                let origin = origin.to_str().unwrap_or_default();
                Err(refused(format!("requests from the origin '{origin}' are refused; see http.allowed_origins")))
            }
            _ => Ok(()),
        }
    }

    /// The origin of a request, if it is ours.
    #[must_use]
    pub fn own_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.is_our_origin(origin, host(headers)).then(|| origin.clone())
    }

    fn is_our_host(&self, host: &str) -> bool {
        let (name, port) = split(host);
        let name = name.to_ascii_lowercase();
        let is_our_port = || self.loopback_port.is_none_or(|own| port.unwrap_or(HTTP_PORT) == own);
        let is_listed = self.names.contains(&name) || self.origins.iter().any(|origin| origin.name == name);
        is_listed || (is_loopback(&name) && is_our_port())
    }

    /// A configured origin, the server's own address, or a configured host name: with the port that the request came
    /// to, or with none.
    fn is_our_origin(&self, given: &HeaderValue, host: &str) -> bool {
        let Some(origin) = given.to_str().ok().and_then(Origin::parse) else { return false };
        if self.origins.contains(&origin) {
            return true;
        }
        let (host_name, host_port) = split(host);
        let is_same_name = host_name.eq_ignore_ascii_case(&origin.name);
        let is_same = is_same_name && host_port.unwrap_or(origin.default_port()) == origin.port;
        if is_loopback(&origin.name) {
            let is_own = self.loopback_port.map_or(is_same, |port| port == origin.port);
            return is_own && origin.scheme == "http";
        }
        self.names.contains(&origin.name) && (is_same || origin.port == origin.default_port())
    }
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

impl Origin {
    /// None where it is no origin of a web page; `null` is none.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.trim_end_matches('/').split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if !["http", "https"].contains(&scheme.as_str()) {
            return None;
        }
        let (name, port) = split(authority);
        let mut origin = Self { scheme, name: name.to_ascii_lowercase(), port: 0 };
        origin.port = port.unwrap_or(origin.default_port());
        Some(origin)
    }

    fn default_port(&self) -> u16 {
        if self.scheme == "https" { HTTPS_PORT } else { HTTP_PORT }
    }
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Name and port of an authority. What is behind the last colon of an IPv6 address without brackets is no port.
fn split(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

fn is_loopback(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}
