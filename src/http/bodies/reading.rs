//! One body on its way from the connection to its reader.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{dev::Payload, error::PayloadError, http::header::HeaderMap, web::Bytes};
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    BodyRules, FREE_BYTES, Refusal,
    decoding::{DecodeFault, Decoding},
};

/// A body's payload, its deadlines, and how much of it was handed on.
pub struct Inbound {
    payload: Payload,
    rules: Arc<BodyRules>,
    decoding: Decoding,
    unsupported: Option<Refusal>,
    whole: Pin<Box<Sleep>>,
    progress: Pin<Box<Sleep>>,
    /// Decoded bytes that were handed on.
    handed: usize,
    /// Of these, the bytes that hold room.
    roomed: usize,
    is_at_end: bool,
    refusal: Option<Refusal>,
}

type Piece = Option<Result<Bytes, PayloadError>>;

impl Inbound {
    pub fn new(payload: Payload, headers: &HeaderMap, rules: Arc<BodyRules>) -> Self {
        let (decoding, unsupported) = match Decoding::of(headers, rules.decoded_bytes) {
            Ok(decoding) => (decoding, None),
            Err(refusal) => (Decoding::Identity, Some(refusal)),
        };
        Self {
            payload,
            decoding,
            unsupported,
            whole: Box::pin(sleep(rules.whole)),
            progress: Box::pin(sleep(rules.progress)),
            rules,
            handed: 0,
            roomed: 0,
            is_at_end: false,
            refusal: None,
        }
    }

    /// Gives the room back: nobody holds the body any more. Answers why it was refused, if it was.
    pub fn end(&mut self) -> Option<Refusal> {
        self.rules.room.give_back(std::mem::take(&mut self.roomed));
        self.refusal.take()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        if let Some(refusal) = self.unsupported.clone() {
            return self.refuse(refusal);
        }
        while !self.is_at_end {
            let decoded = match Pin::new(&mut self.payload).poll_next(context) {
                Poll::Ready(Some(Ok(piece))) => {
                    self.progress.as_mut().reset(Instant::now() + self.rules.progress);
                    self.decoding.piece(piece)
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    self.is_at_end = true;
                    self.decoding.end()
                }
                Poll::Pending if self.is_late(context) => return self.refuse(Refusal::TimedOut),
                Poll::Pending => return Poll::Pending,
            };
            match decoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return self.hand_on(bytes),
                Err(DecodeFault::TooLarge) => return self.refuse(Refusal::TooLarge(self.rules.decoded_bytes)),
                Err(DecodeFault::Damaged(error)) => return self.refuse(Refusal::Damaged(error.to_string())),
            }
        }
        Poll::Ready(None)
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        self.whole.as_mut().poll(context).is_ready() || self.progress.as_mut().poll(context).is_ready()
    }

    fn hand_on(&mut self, bytes: Bytes) -> Poll<Piece> {
        let handed = self.handed + bytes.len();
        let wanted = handed.saturating_sub(FREE_BYTES) - self.roomed;
        if !self.rules.room.take(wanted) {
            return self.refuse(Refusal::NoRoom);
        }
        (self.handed, self.roomed) = (handed, self.roomed + wanted);
        Poll::Ready(Some(Ok(bytes)))
    }

    fn refuse(&mut self, refusal: Refusal) -> Poll<Piece> {
        let error = PayloadError::Io(io::Error::other(refusal.to_string()));
        self.refusal = Some(refusal);
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.end();
    }
}

/// The stream of a body's decoded pieces.
pub struct Reading(pub Rc<RefCell<Inbound>>);

impl Stream for Reading {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll(context)
    }
}
