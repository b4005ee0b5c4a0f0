//! PostgreSQL's v3 protocol as messages and bytes.
//!
//! Owns framing with length limits, the codecs of every message that pgate looks
//! into, and SCRAM-SHA-256 as pure state machines. It refuses sockets, clocks and
//! randomness, and to panic or allocate on a peer's word: every length is checked
//! against the bytes that are there.
//!
//! Messages of the start-up phase and whole messages that pgate writes itself are
//! encoded by the `pgwire` crate; bytes from a peer are decoded here, because the
//! crate's decoders panic on truncated bodies.

mod backend;
mod error_fields;
mod frame;
mod frontend;
pub mod scram;
mod startup;

pub use backend::{
    Authentication, BackendKey, FieldOrigin, Notification, TransactionStatus, authentication,
    backend_key_data, command_tag, data_row_values, find_origin, negotiate_protocol_version,
    notification, parameter_status, parse_authentication, parse_backend_key,
    parse_negotiated_version, parse_notification, parse_parameter_status, parse_row_origins,
    parse_transaction_status, ready_for_query, tag_rows,
};
pub use error_fields::{ErrorFields, field};
pub use frame::{
    BEFORE_AUTHENTICATION, Fields, HEADER, Header, LARGEST_MESSAGE, WireError, header,
};
pub use frontend::{
    Bind, BoundValue, Execute, Parse, Target, bind, bind_values, close_portal, copy_fail,
    describe_portal, describe_statement, execute, flush, md5_password, parse, parse_bind,
    parse_execute, parse_function_oid, parse_parse, parse_query, parse_sasl_initial, parse_target,
    password_response, query, sasl_initial_response, sync, terminate,
};
pub use startup::{
    FirstPacket, PROTOCOL_3_0, PROTOCOL_3_2, Startup, cancel_request, direct_tls_refused,
    encryption_refused, first_packet, first_packet_length, is_direct_tls, ssl_request,
    startup_message,
};
