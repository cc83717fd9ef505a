//! What can be set: one commented default file, environment over it.
