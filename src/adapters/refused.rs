//! Rows that a database refuses: what becomes of their records, whichever database it is.

use streamward_core::{
    decode::{MAX_REASON_BYTES, Rejected, dead_letter},
    output::{DeadLetter, ErrorClass, Output},
    stats::StatColumns,
    table::StreamTable,
};
use streamward_pipeline::store::Pending;

/// Where a refused row failed: the stage of its dead letter.
pub const STAGE: &str = "sql";

/// The output without refused rows, ascending with the reasons, whose records are dead letters.
///
/// # Errors
/// If the bytes of a record are not at hand.
pub fn without(table: &StreamTable, pending: &Pending, refused: &[(usize, String)]) -> Result<Output, String> {
    let letter = |(row, why): &(usize, String)| -> Result<DeadLetter, String> {
        let record = pending.raw.as_ref().and_then(|raw| raw.at_offset(pending.output.offsets[*row]));
        let record = record.ok_or_else(|| format!("{}, and the bytes of its record are not at hand", refused[0].1))?;
        let rejected = Rejected { index: 0, class: ErrorClass::Permanent, reason: why.clone() };
        Ok(dead_letter(&record, &rejected, STAGE))
    };
    let letters = refused.iter().map(letter).collect::<Result<_, _>>()?;
    let columns = StatColumns { event_time: table.event_time, measure: table.measure, anomaly: table.anomaly };
    let rows: Vec<usize> = refused.iter().map(|(row, _)| *row).collect();
    Ok(pending.output.without_rows(&rows, letters, table.key, columns))
}

/// A reason as long as a dead letter keeps it.
pub fn bounded(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
    reason
}
