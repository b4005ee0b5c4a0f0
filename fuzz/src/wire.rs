//! Protocol messages: every decoder on the same bytes. None may panic, or take
//! more memory than there are bytes.

use bytes::BytesMut;
use pgate::wire::{self, scram};

/// Reads `data` as every message there is, and writes back what can be read.
pub fn run(data: &[u8]) {
    let _ = wire::header(data);
    if let Some((head, _)) = data.split_first_chunk::<4>() {
        let _ = wire::first_packet_length(*head);
    }
    let _ = wire::first_packet(data);
    frontend(data);
    backend(data);
    sasl(data);
}

fn frontend(data: &[u8]) {
    if let Ok(sql) = wire::parse_query(data) {
        let mut out = BytesMut::new();
        wire::query(sql, &mut out);
        assert_eq!(wire::parse_query(&out), Ok(sql), "what is written reads back");
    }
    if let Ok(parse) = wire::parse_parse(data) {
        let mut out = BytesMut::new();
        wire::parse(parse.name, parse.sql, parse.types, &mut out);
        assert_eq!(wire::parse_parse(&out), Ok(parse));
    }
    let _ = wire::parse_bind(data);
    let _ = wire::parse_execute(data);
    let _ = wire::parse_target(data);
    let _ = wire::parse_function_oid(data);
    let _ = wire::parse_sasl_initial(data);
}

fn backend(data: &[u8]) {
    let _ = wire::parse_authentication(data);
    let _ = wire::parse_parameter_status(data);
    let _ = wire::parse_backend_key(data);
    let _ = wire::parse_transaction_status(data);
    let _ = wire::command_tag(data);
    let _ = wire::parse_row_origins(data);
    let _ = wire::data_row_values(data);
    if let Ok(fields) = wire::ErrorFields::parse(data) {
        let code = fields.sqlstate().to_owned();
        let mut out = BytesMut::new();
        fields.error_response(&mut out);
        let again = wire::ErrorFields::parse(&out).map(|again| again.sqlstate().to_owned());
        assert_eq!(again, Ok(code));
    }
}

fn sasl(data: &[u8]) {
    let verifier = scram::Verifier::new("password", b"salt", 1);
    if let Ok(server) = scram::ServerFirst::new(verifier, data, "server") {
        let _ = server.finish(data);
    }
    let client = scram::ClientFirst::new("", "nonce", scram::ChannelBinding::Unsupported);
    if let Ok((last, ..)) = client.answer(data, "password", None) {
        assert!(last.finish(data).is_err(), "nobody proves a password without it");
    }
}
