//! The `wagate` program: everything is in the library.

fn main() -> std::process::ExitCode {
    wagate::cli::run()
}
