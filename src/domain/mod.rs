//! Words and rules: ids, states, cursors, errors. No I/O.
