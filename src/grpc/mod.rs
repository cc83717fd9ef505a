//! One thin file per service, and the server around them.
