//! SaslHandshake and SaslAuthenticate: an authentication on listeners that ask for one, and a
//! refusal on those that do not.

use std::time::Instant;

use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use super::{Call, is_served};
use crate::auth::Session;
use crate::error::Code;
use crate::wire::{Answer, Frame, Malformed, text};

/// Takes a request of an authentication; the answer, and the reason if it is a refusal.
///
/// # Errors
/// A request that does not follow the protocol, or a version that is not served.
pub(crate) fn prove(session: &mut Session, frame: &Frame) -> Result<(Answer, String), Malformed> {
    if !is_served(frame) {
        return Err(Malformed::new(format!("{:?} version {}", frame.key, frame.version)));
    }
    if frame.key == ApiKey::SaslHandshake {
        let request: SaslHandshakeRequest = frame.decode()?;
        let response = session.handshake(&request, frame.version);
        let reason = Code::try_from_code(response.error_code).map_or_else(String::new, |code| code.to_string());
        return Ok((frame.encode(&response)?, reason));
    }
    let request: SaslAuthenticateRequest = frame.decode()?;
    let response = session.answer(&request, Instant::now());
    let reason = response.error_message.as_ref().map_or_else(String::new, ToString::to_string);
    Ok((frame.encode(&response)?, reason))
}

/// Refuses a handshake where nobody has to authenticate.
pub(super) fn handshake(_call: &Call<'_>, _request: &SaslHandshakeRequest) -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(Code::IllegalSaslState.code())
}

/// Refuses a token where nobody has to authenticate.
pub(super) fn authenticate(_call: &Call<'_>, _request: &SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_code(Code::IllegalSaslState.code())
        .with_error_message(Some(text("this listener asks for no authentication")))
}
