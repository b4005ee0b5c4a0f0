//! The trees of views as PostgreSQL keeps them: whatever they are, they are read or
//! refused, and read the same way twice.

use std::str;

use pgate::sql::{AttributeNumber, Lineage, on_large_stack};

/// Longer texts only take longer.
const LONGEST: usize = 64 * 1024;

/// Reads `data` as the tree of a view.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if text.len() > LONGEST {
        return;
    }
    on_large_stack(|| {
        let Some(lineage) = Lineage::read(text) else { return };
        assert_eq!(Lineage::read(text).as_ref(), Some(&lineage), "it is read the same way twice");
        let numbers = lineage.columns.keys().copied().collect::<Vec<_>>();
        let wanted = (1..).map(AttributeNumber).take(numbers.len()).collect::<Vec<_>>();
        assert_eq!(numbers, wanted, "its columns are numbered without a gap");
        for column in lineage.columns.values() {
            let shown = column.as_is.is_none() || !column.flows.is_empty();
            assert!(shown, "what is shown as it is flows");
        }
    });
}
