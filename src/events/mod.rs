//! The log: append, read after a cursor, wake sleepers, forget.
