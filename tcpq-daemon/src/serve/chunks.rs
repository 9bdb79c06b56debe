//! An exposition as the body of an answer: a chunk is made when the connection has room for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use hyper::body::{Bytes, Frame};

use crate::serve::metrics::{EncodeError, Exposition};

/// Chunks still to be sent.
pub(super) struct Chunks {
    /// Already made.
    next: Option<Bytes>,
    rest: Exposition,
}

impl Chunks {
    /// The whole exposition, with its length if it is one chunk, as that of most hosts is.
    pub(super) fn body(mut exposition: Exposition) -> Result<Body, EncodeError> {
        let first = exposition.chunk()?.unwrap_or_default();
        match exposition.chunk()? {
            None => Ok(first.into()),
            Some(second) => {
                let next = [first, second].concat();
                Ok(Body::new(Self { next: Some(next.into()), rest: exposition }))
            }
        }
    }
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = EncodeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EncodeError>>> {
        let next = match self.next.take() {
            Some(next) => Ok(Some(next)),
            None => self.rest.chunk().map(|chunk| chunk.map(Bytes::from)),
        };
        Poll::Ready(next.map(|chunk| chunk.map(Frame::data)).transpose())
    }
}
