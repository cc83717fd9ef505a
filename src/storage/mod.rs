//! Everything that is kept: one trait, SQLite behind it. sqlx is named only here.
