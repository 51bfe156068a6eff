//! What a rebuild makes of records and reports.
