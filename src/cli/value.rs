//! Where a value comes from, and what is asked of it.

use std::path::Path;

use super::args::ValueArgs;
use super::ask::{Ask, read_limited};
use super::error::{CliError, Result};
use crate::secret::SecretValue;

/// The largest value, in bytes.
pub const MAX_VALUE: usize = 64 * 1024;
/// Room for a newline (`\r\n`) that is taken away.
const MAX_READ: usize = MAX_VALUE + 2;

/// Reads the value of the secret `name` from where the flags say.
pub fn read(args: &ValueArgs, name: &str, ask: &mut dyn Ask) -> Result<SecretValue> {
    let terminal = ask.is_terminal();
    let value = match &args.from_file {
        Some(path) => newline(read_file(path, MAX_READ)?, args, terminal.then_some(&mut *ask))?,
        // Whoever ends standard input has answered all he can.
        None if args.from_stdin || !terminal => {
            if args.reveal {
                return Err(CliError::usage("--reveal is for a typed value: there is no terminal to type at"));
            }
            newline(ask.read_all(MAX_READ)?, args, None)?
        }
        None => typed(args, name, ask)?,
    };
    check_size(&value).map_err(|problem| CliError::usage(format!("the value {problem}")))?;
    Ok(value)
}

/// Reads a file of at most `limit` bytes, or one byte more, so that the caller sees that it is too large.
pub fn read_file(path: &Path, limit: usize) -> Result<SecretValue> {
    let unreadable = |error: std::io::Error| {
        let message = format!("{} cannot be read: {error}", path.display());
        if error.kind() == std::io::ErrorKind::NotFound {
            CliError::not_found(message)
        } else {
            CliError::failure(message)
        }
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    read_limited(&mut file, limit).map_err(unreadable)
}

/// Says what is wrong with the size of a value. Never says the size itself.
pub fn check_size(value: &SecretValue) -> std::result::Result<(), &'static str> {
    match value.expose().len() {
        0 => Err("is empty: a secret has at least 1 byte"),
        1..=MAX_VALUE => Ok(()),
        _ => Err("is larger than 64 KiB: store a key to the data, not the data"),
    }
}

fn typed(args: &ValueArgs, name: &str, ask: &mut dyn Ask) -> Result<SecretValue> {
    let first = ask.hidden(&format!("Value of {name} (not shown): "))?;
    check_size(&first).map_err(|problem| CliError::usage(format!("the value {problem}")))?;
    if args.reveal {
        ask.reveal(&first)?;
        return if ask.yes("Seal this value?")? {
            Ok(first)
        } else {
            Err(CliError::new(super::error::Exit::Declined, "nothing was changed"))
        };
    }
    let second = ask.hidden("The same again: ")?;
    if first.expose() == second.expose() {
        Ok(first)
    } else {
        Err(CliError::usage("the two values differ: nothing was changed")
            .hint("type again, or paste with --reveal, which shows the value once"))
    }
}

/// A newline at the end is nearly always an editor's or `echo`'s, and a token with one is refused by its server in
/// ways that are hard to see. So it is asked about, or has to be told by a flag.
fn newline(value: SecretValue, args: &ValueArgs, ask: Option<&mut dyn Ask>) -> Result<SecretValue> {
    let bytes = value.expose();
    let ending = if bytes.ends_with(b"\r\n") { 2 } else { usize::from(bytes.ends_with(b"\n")) };
    if ending == 0 || args.keep_newline {
        return Ok(value);
    }
    let trim = args.trim_newline
        || match ask {
            Some(ask) => ask.yes("The value ends with a newline, as editors and `echo` add one. Take it away?")?,
            None => {
                return Err(CliError::usage("the value ends with a newline, as editors and `echo` add one").hint(
                    "add --trim-newline to take it away, or --keep-newline if it belongs to the value (`printf %s` writes \
                     none)",
                ));
            }
        };
    Ok(if trim { SecretValue::new(bytes[..bytes.len() - ending].to_vec()) } else { value })
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::Script;
    use super::super::error::Exit;
    use super::*;

    fn from(args: &ValueArgs, ask: &mut Script) -> std::result::Result<Vec<u8>, CliError> {
        read(args, "X", ask).map(|value| value.expose().to_vec())
    }

    fn piped(stdin: &'static [u8], args: &ValueArgs) -> std::result::Result<Vec<u8>, CliError> {
        from(args, &mut Script { stdin, ..Script::default() })
    }

    #[test]
    fn a_trailing_newline_from_a_pipe_needs_a_flag() {
        let plain = ValueArgs::default();
        let trim = ValueArgs { trim_newline: true, ..ValueArgs::default() };
        let keep = ValueArgs { keep_newline: true, ..ValueArgs::default() };
        for (input, by_default, trimmed, kept) in [
            (&b"a"[..], Some(&b"a"[..]), &b"a"[..], &b"a"[..]),
            (b"a\n", None, b"a", b"a\n"),
            (b"a\r\n", None, b"a", b"a\r\n"),
            (b"a\n\n", None, b"a\n", b"a\n\n"),
            (b"\na", Some(b"\na"), b"\na", b"\na"),
        ] {
            assert_eq!(piped(input, &plain).ok().as_deref(), by_default, "{input:?}");
            assert_eq!(piped(input, &trim).unwrap(), trimmed);
            assert_eq!(piped(input, &keep).unwrap(), kept);
        }
        let error = piped(b"a\n", &plain).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        let text = error.to_string();
        assert!(text.contains("--trim-newline") && text.contains("--keep-newline"), "{text}");
    }

    #[test]
    fn a_file_is_asked_about_at_a_terminal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"a\n").unwrap();
        let args = ValueArgs { from_file: Some(file.path().into()), ..ValueArgs::default() };
        for (answer, value) in [(true, &b"a"[..]), (false, b"a\n")] {
            let mut script = Script { terminal: true, answers: [answer].into(), ..Script::default() };
            assert_eq!(from(&args, &mut script).unwrap(), value);
        }
        assert_eq!(from(&args, &mut Script::default()).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_missing_file_is_not_found() {
        let args = ValueArgs { from_file: Some("/nonexistent/value".into()), ..ValueArgs::default() };
        assert_eq!(from(&args, &mut Script::default()).unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn sizes_are_bounded_and_an_error_says_no_length() {
        static MOST: [u8; MAX_VALUE + 3] = [b'x'; MAX_VALUE + 3];
        let args = ValueArgs::default();
        assert_eq!(piped(&MOST[..1], &args).unwrap().len(), 1);
        assert_eq!(piped(&MOST[..MAX_VALUE], &args).unwrap().len(), MAX_VALUE);
        assert_eq!(piped(b"", &args).unwrap_err().exit, Exit::Usage);
        for length in [MAX_VALUE + 1, MAX_VALUE + 3] {
            let text = piped(&MOST[..length], &args).unwrap_err().to_string();
            assert!(text.contains("64 KiB") && !text.contains(&length.to_string()), "{text}");
        }
    }

    #[test]
    fn the_largest_value_may_bear_a_newline_that_is_taken_away() {
        static VALUE: [u8; MAX_VALUE + 1] = {
            let mut value = [b'x'; MAX_VALUE + 1];
            value[MAX_VALUE] = b'\n';
            value
        };
        let trim = ValueArgs { trim_newline: true, ..ValueArgs::default() };
        assert_eq!(piped(&VALUE, &trim).unwrap().len(), MAX_VALUE);
    }

    #[test]
    fn a_typed_value_is_typed_twice_or_shown_once() {
        let plain = ValueArgs::default();
        let mut script = Script { terminal: true, typed: ["a", "a"].into(), ..Script::default() };
        assert_eq!(from(&plain, &mut script).unwrap(), b"a");
        let mut script = Script { terminal: true, typed: ["a", "b"].into(), ..Script::default() };
        assert_eq!(from(&plain, &mut script).unwrap_err().exit, Exit::Usage);
        assert_eq!(script.revealed, 0);

        let reveal = ValueArgs { reveal: true, ..ValueArgs::default() };
        let mut script = Script { terminal: true, typed: ["a"].into(), answers: [true].into(), ..Script::default() };
        assert_eq!(from(&reveal, &mut script).unwrap(), b"a");
        assert_eq!(script.revealed, 1);
        let mut script = Script { terminal: true, typed: ["a"].into(), answers: [false].into(), ..Script::default() };
        assert_eq!(from(&reveal, &mut script).unwrap_err().exit, Exit::Declined);
        assert_eq!(piped(b"a", &reveal).unwrap_err().exit, Exit::Usage);
    }
}
