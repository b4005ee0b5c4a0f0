//! Rows of a role with `detect`: held whole, looked through, and forwarded with what
//! was found masked. What was found is an alert in the log, once the statement is over.
//! Rows that are recorded come the same way, and are recorded as they are forwarded.

use std::sync::Arc;

use super::{Phase, Session, pending::Run};
use crate::{
    journal::Record,
    mask::Column,
    wire::{self, Header, WireError},
};

impl Session {
    /// Whether the row that comes now has to be looked through, or recorded.
    pub(super) fn looks_into_rows(&mut self, row: Header) -> bool {
        if self.phase == Phase::Concluding {
            return false;
        }
        let looks = |run: &mut Run| run.permit.detection().is_some() || run.records(row.length);
        self.pending.run().is_some_and(looks)
    }

    /// A row of a statement whose results are looked through, or recorded.
    pub(super) fn whole_row(&mut self, message: &[u8], header: Header) -> Result<(), WireError> {
        self.row(header)?;
        if !self.server.row_forwarded() {
            return Ok(());
        }
        let Some(run) = self.pending.run() else { return Err(WireError::OutOfPlace(header.tag)) };
        let new = match run.permit.detection().cloned() {
            None => None,
            Some(detection) if header.tag == b'd' => {
                detection.copy_data(message, run.copy_binary, &mut run.detected)?
            }
            Some(detection) => {
                let columns = run.columns();
                detection.data_row(message, &columns, &mut run.detected)?
            }
        };
        let sent = new.as_deref().unwrap_or(message);
        run.record_row(sent, header)?;
        self.to_client.extend_from_slice(sent);
        Ok(())
    }

    /// The RowDescription of a Query: its rows come next, in the formats that it says.
    pub(super) fn note_columns(&mut self, message: &[u8]) -> Result<(), WireError> {
        if let Some(run) = self.pending.run()
            && run.permit.reads_rows()
        {
            run.columns = Some(described(message)?);
        }
        Ok(())
    }

    /// Writes what was found into the log: which column, which kind, how often.
    pub(super) fn report_detected(&mut self, run: &Run) {
        for ((column, kind), count) in &run.detected {
            let statement = run.permit.statement();
            let place = if column.is_empty() {
                "the data of COPY".to_owned()
            } else {
                format!("the column {column}")
            };
            self.record(Record::Alert {
                connection: Some(self.config.connection),
                message: format!(
                    "statement {statement}: {count} values in {place} look like {kind}, which no \
                     mask covers; they were masked on their way (detect)"
                ),
            });
        }
    }
}

/// The columns of a RowDescription.
pub(super) fn described(message: &[u8]) -> Result<Arc<[Column]>, WireError> {
    let origins = wire::parse_row_origins(message)?;
    let column = |origin: wire::FieldOrigin| Column {
        name: origin.name,
        type_oid: origin.type_oid,
        binary: origin.binary,
    };
    Ok(origins.into_iter().map(column).collect())
}
