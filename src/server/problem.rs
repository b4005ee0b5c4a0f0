//! Refusals as the API tells them: RFC 9457 problems.
//!
//! Owns the one way from an error to an answer. What the server alone should
//! know (a store's error, a database's address) goes to the log, never to a client.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::store::StoreError;
use crate::{api::Problem, grant::TransitionError};

/// A request that is refused or failed.
#[derive(Debug)]
pub(super) struct Refusal(Problem);

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, title: impl Into<String>) -> Self {
        Self(Problem {
            status: status.as_u16(),
            code: code.to_owned(),
            title: title.into(),
            hint: None,
        })
    }

    /// The same with what to do next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(super) fn bad_request(code: &str, title: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, title)
    }

    pub(super) fn unauthorized(code: &str, title: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, title)
    }

    pub(super) fn forbidden(code: &str, title: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, title)
    }

    pub(super) fn not_found(code: &str, title: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, title)
    }

    pub(super) fn conflict(code: &str, title: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, title)
    }

    pub(super) fn unavailable(code: &str, title: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title)
    }

    /// Something that is the server's own fault; `error` is for its log.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the control plane could not finish the request",
        )
        .hint("try again; if it stays, the server's log says why")
    }

    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    /// What is said of it, for other answers than JSON.
    pub(super) fn problem(&self) -> &Problem {
        &self.0
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<TransitionError> for Refusal {
    fn from(error: TransitionError) -> Self {
        let title = error.to_string();
        match error {
            TransitionError::NotPending { .. } => Self::conflict("not_pending", title),
            TransitionError::AlreadyEnded { .. } => Self::conflict("already_ended", title),
            TransitionError::OwnRequest { .. } => {
                Self::forbidden("own_request", title).hint("ask another reviewer")
            }
            TransitionError::ApprovedAlready { .. } => Self::conflict("approved_already", title),
            TransitionError::OutOfRange(_) => Self::bad_request("bad_ttl", title),
        }
    }
}
