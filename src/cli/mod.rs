//! The command line: a thin gRPC client of ourselves.
