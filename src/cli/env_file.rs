//! `.env` files: names and values, read all or not at all.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::api::names::team_secret_object;
use crate::secret::SecretValue;

use super::manifest::check_name;
use super::value::{MAX_VALUE, check_size};

/// Reads `NAME=value` lines. Accepted are empty lines, `#` comments, a leading `export`, values in single quotes (taken
/// as they are) and in double quotes (`\n`, `\r`, `\t`, `\"`, `\\`, `\$`); quoted values may span lines. Nothing is
/// expanded: a `$` that other tools would expand is refused, so that no secret means something else here than there.
///
/// # Errors
/// Every problem with its line. Never a part of a value.
pub fn parse(text: &SecretValue) -> Result<Vec<(String, SecretValue)>, Vec<String>> {
    let Ok(text) = std::str::from_utf8(text.expose()) else {
        return Err(vec!["the file is not UTF-8 text".into()]);
    };
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::<String, (String, usize)>::new();
    while let Some((line, entry)) = reader.next_entry() {
        let (name, value) = match entry {
            Ok(entry) => entry,
            Err(problem) => {
                problems.push(format!("line {line}: {problem}"));
                continue;
            }
        };
        // A stray line of a key in base64 ends with `=` and reads as a name without a value: these two repeat no name.
        if check_name(&name).is_err() {
            problems
                .push(format!("line {line}: a name has at most 128 letters, digits and `_`, and `_` not at its ends"));
            continue;
        }
        if let Err(problem) = check_size(&value) {
            problems.push(format!("line {line}: the value {problem}"));
            continue;
        }
        if let Some((other, before)) = seen.insert(team_secret_object(&name), (name.clone(), line)) {
            problems.push(if other == name {
                format!("line {line}: {name} stands in line {before} already")
            } else {
                format!("line {line}: {name} and {other} (line {before}) differ only in case: a team has one of them")
            });
        }
        entries.push((name, value));
    }
    if entries.is_empty() && problems.is_empty() {
        problems.push("the file holds no NAME=value line".into());
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

type Entry = (String, SecretValue);

impl Reader<'_> {
    /// The next entry and the line that it begins in.
    fn next_entry(&mut self) -> Option<(usize, Result<Entry, String>)> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let line = self.line;
            let (head, _) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            let trimmed = head.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                self.skip_line();
                continue;
            }
            return Some((line, self.entry()));
        }
    }

    fn entry(&mut self) -> Result<Entry, String> {
        let (head, _) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        let Some((name, value)) = head.split_once('=') else {
            self.skip_line();
            return Err("expected NAME=value".into());
        };
        // What stands before the first `=` may itself be a stray value: it is repeated only where it is a name.
        let name = name.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim_start).to_owned();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.skip_line();
            return Err("expected NAME=value, the name of letters, digits and `_`".into());
        }
        let start = head.len() - value.trim_start().len();
        let value = if let Some(&quote @ (b'\'' | b'"')) = value.trim_start().as_bytes().first() {
            self.rest = &self.rest[start + 1..];
            self.quoted(&name, char::from(quote))
        } else {
            self.skip_line();
            unquoted(&name, value)
        };
        value.map(|value| (name, value))
    }

    /// Reads on to the closing quote and the end of its line.
    fn quoted(&mut self, name: &str, quote: char) -> Result<SecretValue, String> {
        // As large as a value may be, so that it does not grow and leave copies behind.
        let mut value = Zeroizing::new(Vec::with_capacity(self.rest.len().min(MAX_VALUE)));
        let mut problem = None;
        let mut chars = self.rest.char_indices();
        let end = loop {
            let Some((index, c)) = chars.next() else {
                self.rest = "";
                return Err(format!("the value of {name} has no closing {quote}"));
            };
            match c {
                _ if c == quote => break index + 1,
                '\n' => {
                    self.line += 1;
                    value.push(b'\n');
                }
                '\\' if quote == '"' => match chars.next() {
                    Some((_, 'n')) => value.push(b'\n'),
                    Some((_, 'r')) => value.push(b'\r'),
                    Some((_, 't')) => value.push(b'\t'),
                    Some((_, c @ ('"' | '\\' | '$'))) => value.push(c as u8),
                    other => {
                        self.line += usize::from(matches!(other, Some((_, '\n'))));
                        problem.get_or_insert_with(|| {
                            format!("the value of {name} has a `\\` before something else than n, r, t, \", \\ or $: double it")
                        });
                    }
                },
                '$' if quote == '"' && is_expansion(chars.as_str()) => {
                    problem.get_or_insert_with(|| expansion(name));
                }
                c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        };
        self.rest = &self.rest[end..];
        let (tail, _) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        let tail = tail.trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            problem.get_or_insert_with(|| format!("something stands after the closing {quote} of {name}"));
        }
        self.skip_line();
        let value = SecretValue::new(std::mem::take(&mut value));
        match problem {
            Some(problem) => Err(problem),
            None => Ok(value),
        }
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        self.line += 1;
    }
}

/// A value without quotes ends at the line's end, or before a comment: a `#` after a space.
fn unquoted(name: &str, value: &str) -> Result<SecretValue, String> {
    let end = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
    let value = if value.trim_start().starts_with('#') { "" } else { value[..end].trim() };
    if value.match_indices('$').any(|(at, _)| is_expansion(&value[at + 1..])) {
        return Err(expansion(name));
    }
    Ok(SecretValue::new(value.as_bytes().to_vec()))
}

fn is_expansion(after_dollar: &str) -> bool {
    after_dollar.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '('))
}

fn expansion(name: &str) -> String {
    format!(
        "the value of {name} has a `$` that other tools would expand: put it into single quotes to take it as it is"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, String)> {
        let parsed =
            parse(&SecretValue::new(text.as_bytes().to_vec())).unwrap_or_else(|problems| panic!("{problems:?}"));
        parsed.into_iter().map(|(name, value)| (name, String::from_utf8(value.expose().to_vec()).unwrap())).collect()
    }

    fn problems(text: &str) -> Vec<String> {
        parse(&SecretValue::new(text.as_bytes().to_vec())).map(|_| ()).unwrap_err()
    }

    #[test]
    fn every_form_of_a_value_is_read() {
        for (line, value) in [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("export A=b", "b"),
            ("A=b\r", "b"),
            ("A=b # comment", "b"),
            ("A=b\t# comment", "b"),
            ("A=b#c", "b#c"),
            ("A=b=c==", "b=c=="),
            ("A='b c # d'", "b c # d"),
            ("A='$B \\n'", "$B \\n"),
            ("A=\"b\\n\\\"c\\\" \\\\ \\$D\"", "b\n\"c\" \\ $D"),
            ("A=\"b\nc\" # comment", "b\nc"),
            ("A='b\nc'", "b\nc"),
            ("A=5$", "5$"),
            ("A=a$1", "a$1"),
            ("\u{feff}A=b", "b"),
            ("A=\"\u{e4}\"", "\u{e4}"),
        ] {
            assert_eq!(entries(line), [("A".to_owned(), value.to_owned())], "{line:?}");
        }
    }

    #[test]
    fn comments_and_empty_lines_are_passed_over_and_order_is_kept() {
        let names: Vec<_> = entries("# one\n\nB=1\n  # two\nA=2\n").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["B", "A"]);
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_line() {
        let text = "A=1\nnonsense\nB=\"1\n2\"\nC=$HOME\nD=\n_E=x\na=2\nA=3\nF=\"x\" y\nG=\"\\q\"\nH='open";
        let told = problems(text);
        let expected = [
            "line 2: ",
            "line 5: ",
            "line 6: ",
            "line 7: ",
            "line 8: ",
            "line 9: ",
            "line 10: ",
            "line 11: ",
            "line 12: ",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (problem, line) in told.iter().zip(expected) {
            assert!(problem.starts_with(line), "{problem} is not of {line}");
        }
    }

    #[test]
    fn no_problem_repeats_a_value() {
        for text in [
            "hunter2",
            "hunter2 is=it",
            "A=\"hunter2",
            "A=\"hunter2\\q\"",
            "A=\"hunter2\" hunter2",
            "A=hunter2$B",
            "A=\"hunter2${B}\"",
            "hunter2=",
            "_hunter2=x",
        ] {
            for problem in problems(text) {
                assert!(!problem.contains("hunter2"), "{problem}");
            }
        }
    }

    #[test]
    fn an_empty_file_is_a_problem() {
        assert_eq!(problems("# nothing\n").len(), 1);
        assert_eq!(parse(&SecretValue::new(vec![b'A', b'=', 0xff])).map(|_| ()).unwrap_err().len(), 1);
    }
}
