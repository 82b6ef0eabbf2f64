//! Questions to whoever sits at the terminal.

use std::io::{BufRead, IsTerminal, Read, Write};

use super::error::{CliError, Exit, Result};
use crate::secret::SecretValue;

/// Whoever answers questions and types values.
pub trait Ask {
    /// Whether somebody is there to answer.
    fn is_terminal(&self) -> bool;

    /// Asks a question that is answered with yes or no.
    fn yes(&mut self, question: &str) -> Result<bool>;

    /// Reads a line that is not shown while it is typed.
    fn hidden(&mut self, prompt: &str) -> Result<SecretValue>;

    /// Shows a value once, to eyes only: never to a pipe or a file.
    fn reveal(&mut self, value: &SecretValue) -> Result<()>;

    /// What stands on standard input, to its end or to one byte past `limit`.
    fn read_all(&mut self, limit: usize) -> Result<SecretValue>;
}

/// The terminal that the program was started at.
pub struct Terminal;

impl Ask for Terminal {
    fn is_terminal(&self) -> bool {
        std::io::stdin().is_terminal()
    }

    fn yes(&mut self, question: &str) -> Result<bool> {
        let mut notes = std::io::stderr().lock();
        let _ = write!(notes, "{question} [y/N] ").and_then(|()| notes.flush());
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(|error| unreadable(&error))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    fn hidden(&mut self, prompt: &str) -> Result<SecretValue> {
        let config = rpassword::ConfigBuilder::new().password_feedback_hide().build();
        let typed = rpassword::prompt_password_with_config(prompt, config).map_err(|error| {
            if error.kind() == std::io::ErrorKind::Interrupted {
                CliError::new(Exit::Declined, "interrupted: nothing was changed")
            } else {
                CliError::usage(format!("the terminal cannot be read: {error}"))
                    .hint("give the value on standard input or with --from-file")
            }
        })?;
        // Takes the buffer over: no further copy is made.
        Ok(SecretValue::new(typed.into_bytes()))
    }

    fn reveal(&mut self, value: &SecretValue) -> Result<()> {
        let mut terminal = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/tty")
            .map_err(|error| CliError::usage(format!("--reveal needs a terminal: {error}")))?;
        terminal
            .write_all(b"The value, shown this once: ")
            .and_then(|()| terminal.write_all(value.expose()))
            .and_then(|()| terminal.write_all(b"\n"))
            .map_err(|error| CliError::failure(format!("the terminal cannot be written: {error}")))
    }

    fn read_all(&mut self, limit: usize) -> Result<SecretValue> {
        read_limited(&mut std::io::stdin().lock(), limit).map_err(|error| unreadable(&error))
    }
}

fn unreadable(error: &std::io::Error) -> CliError {
    CliError::failure(format!("standard input cannot be read: {error}"))
}

/// Reads to the end, or to one byte past `limit`, into one buffer that never grows: growing leaves copies behind.
pub fn read_limited(reader: &mut impl Read, limit: usize) -> std::io::Result<SecretValue> {
    let mut buffer = Vec::with_capacity(limit + 1);
    let mut chunk = reader.take(limit as u64 + 1);
    chunk.read_to_end(&mut buffer)?;
    Ok(SecretValue::new(buffer))
}

/// Asks before something is destroyed. Without a terminal, only `--yes` is a yes.
pub fn confirm(ask: &mut dyn Ask, yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !ask.is_terminal() {
        return Err(CliError::usage("this asks first, and there is no terminal to ask at").hint("add --yes to go on"));
    }
    if ask.yes(question)? { Ok(()) } else { Err(CliError::new(Exit::Declined, "nothing was changed")) }
}

#[cfg(test)]
pub mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Answers from a script.
    #[derive(Default)]
    pub struct Script {
        /// Whether a terminal is there.
        pub terminal: bool,
        /// Answers to yes-or-no questions.
        pub answers: VecDeque<bool>,
        /// What is typed at hidden prompts.
        pub typed: VecDeque<&'static str>,
        /// What stands on standard input.
        pub stdin: &'static [u8],
        /// What was asked.
        pub asked: Vec<String>,
        /// How often a value was shown.
        pub revealed: usize,
    }

    impl Ask for Script {
        fn is_terminal(&self) -> bool {
            self.terminal
        }

        fn yes(&mut self, question: &str) -> Result<bool> {
            self.asked.push(question.into());
            Ok(self.answers.pop_front().expect("a question that the script does not answer"))
        }

        fn hidden(&mut self, prompt: &str) -> Result<SecretValue> {
            self.asked.push(prompt.into());
            Ok(SecretValue::new(self.typed.pop_front().expect("a prompt that the script does not answer").into()))
        }

        fn reveal(&mut self, _: &SecretValue) -> Result<()> {
            self.revealed += 1;
            Ok(())
        }

        fn read_all(&mut self, limit: usize) -> Result<SecretValue> {
            Ok(read_limited(&mut { self.stdin }, limit).unwrap())
        }
    }

    #[test]
    fn what_destroys_needs_a_yes_from_somewhere() {
        let mut nobody = Script::default();
        assert_eq!(confirm(&mut nobody, false, "?").unwrap_err().exit, Exit::Usage);
        assert!(confirm(&mut nobody, true, "?").is_ok());
        let mut somebody = Script { terminal: true, answers: [true, false].into(), ..Script::default() };
        assert!(confirm(&mut somebody, false, "?").is_ok());
        assert_eq!(confirm(&mut somebody, false, "?").unwrap_err().exit, Exit::Declined);
    }

    #[test]
    fn reading_stops_one_byte_past_the_limit() {
        let value = read_limited(&mut &[b'x'; 100][..], 10).unwrap();
        assert_eq!(value.expose().len(), 11);
    }
}
