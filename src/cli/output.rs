//! What a command prints: results on stdout, remarks on stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;

/// Where results and remarks go.
pub struct Output {
    /// Results are proto3 JSON, one object per line.
    pub json: bool,
    /// Results go to a terminal that a person looks at.
    pub terminal: bool,
    results: Box<dyn Write>,
    remarks: Box<dyn Write>,
}

impl Output {
    /// This process's own.
    pub fn stdio(json: bool) -> Self {
        Self {
            json,
            terminal: io::stdout().is_terminal() && !json,
            results: Box::new(io::stdout()),
            remarks: Box::new(io::stderr()),
        }
    }

    /// Prints a message of the contract: as JSON, or as what `text` makes of it.
    pub fn show<M: Serialize>(
        &mut self,
        message: &M,
        text: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.json {
            true => self.line(&serde_json::to_string(message).map_err(io::Error::from)?),
            false => self.line(&text(message)),
        }
    }

    /// Prints a line, at once: who reads a pipe shall not wait.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.results, "{text}")?;
        Ok(self.results.flush()?)
    }

    /// Prints without ending the line.
    pub fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.results.write_all(text.as_bytes())?;
        Ok(self.results.flush()?)
    }

    /// Tells people something that is no result. Whether they can read it changes nothing.
    pub fn remark(&mut self, text: &str) {
        let _ = writeln!(self.remarks, "{text}");
    }
}

#[cfg(test)]
pub mod captured {
    //! An output that tests can read.

    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was printed.
    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        /// All of it.
        pub fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().expect("no panic while writing")).into_owned()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("no panic while writing")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output, its results and its remarks.
    pub fn output(json: bool) -> (Output, Captured, Captured) {
        let (results, remarks) = (Captured::default(), Captured::default());
        let output = Output {
            json,
            terminal: false,
            results: Box::new(results.clone()),
            remarks: Box::new(remarks.clone()),
        };
        (output, results, remarks)
    }
}
