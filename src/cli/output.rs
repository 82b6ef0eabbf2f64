//! Everything that is written for people and programs: tables, JSON, YAML on one side, notes on the other.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::error::{CliError, Result};

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For eyes.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For Git.
    Yaml,
}

/// Where output goes: results to one side (standard output), notes and questions to the other (standard error).
pub struct Output {
    format: Format,
    results: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
}

impl Output {
    /// Results to standard output, notes to standard error.
    pub fn standard(format: Format) -> Self {
        Self::to(format, Box::new(std::io::stdout()), Box::new(std::io::stderr()))
    }

    /// Results and notes to the given writers.
    pub fn to(format: Format, results: Box<dyn Write + Send>, notes: Box<dyn Write + Send>) -> Self {
        Self { format, results, notes }
    }

    /// How results are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes a result: as `table` says for eyes, else as the data itself.
    pub fn result(&mut self, data: &impl Serialize, table: impl FnOnce() -> Table) -> Result<()> {
        match self.format {
            Format::Table => self.text(&table().to_string()),
            Format::Json | Format::Yaml => self.data(data),
        }
    }

    /// Writes a result that reads as one sentence.
    pub fn done(&mut self, data: &impl Serialize, sentence: &str) -> Result<()> {
        match self.format {
            Format::Table => self.text(&format!("{sentence}\n")),
            Format::Json | Format::Yaml => self.data(data),
        }
    }

    /// Writes data as JSON, or as YAML where that was asked for.
    pub fn data(&mut self, data: &impl Serialize) -> Result<()> {
        let text = match self.format {
            Format::Yaml => serde_yaml::to_string(data).map_err(|error| unwritable(&error))?,
            Format::Table | Format::Json => {
                serde_json::to_string_pretty(data).map_err(|error| unwritable(&error))? + "\n"
            }
        };
        self.text(&text)
    }

    /// Writes several objects as one YAML stream, or as one JSON list.
    pub fn manifests(&mut self, items: &[serde_json::Value]) -> Result<()> {
        if let ([item], _) | ([item, ..], Format::Yaml) = (items, self.format) {
            self.data(item)?;
            for item in &items[1..] {
                self.text("---\n")?;
                self.data(item)?;
            }
            return Ok(());
        }
        self.data(&serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}))
    }

    /// Writes text as it is to the results.
    pub fn text(&mut self, text: &str) -> Result<()> {
        match self.results.write_all(text.as_bytes()).and_then(|()| self.results.flush()) {
            // Who closed the pipe has read enough: `daypass secret list | head -1`.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(unwritable(&error)),
            _ => Ok(()),
        }
    }

    /// Writes a line for people beside the results. A note that cannot be written stops nothing.
    pub fn note(&mut self, line: &str) {
        let _ = writeln!(self.notes, "{line}").and_then(|()| self.notes.flush());
    }

    /// Writes a table for people beside the results.
    pub fn note_table(&mut self, table: &Table) {
        let _ = write!(self.notes, "{table}").and_then(|()| self.notes.flush());
    }
}

fn unwritable(error: &dyn std::fmt::Display) -> CliError {
    CliError::failure(format!("the output cannot be written: {error}"))
}

/// A table in the manner of kubectl: upper-case headings, columns three spaces apart.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with its headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row; it has as many cells as there are headings. An empty cell is shown as `-`.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(Some(N), self.rows.first().map(Vec::len));
        self.rows
            .push(cells.into_iter().map(|cell| if cell.is_empty() { "-".into() } else { printable(&cell) }).collect());
    }
}

/// Names and messages come from objects that others wrote: no control character of theirs reaches the terminal.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How long ago, as kubectl writes it: `12s`, `5m`, `3h`, `2d`.
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return "<unknown>".into() };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A writer whose text can be read afterwards.
    #[derive(Clone, Default)]
    pub struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        /// What was written.
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buffer);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// An output and its two sides.
    pub fn captured(format: Format) -> (Output, Shared, Shared) {
        let (results, notes) = (Shared::default(), Shared::default());
        (Output::to(format, Box::new(results.clone()), Box::new(notes.clone())), results, notes)
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_have_no_tail() {
        let mut table = Table::new(["NAME", "BY"]);
        table.row(["HF_TOKEN".into(), "amy".into()]);
        table.row(["X".into(), String::new()]);
        assert_eq!(table.to_string(), "NAME       BY\nHF_TOKEN   amy\nX          -\n");
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let mut table = Table::new(["BY"]);
        table.row(["a\u{1b}[2Jb\nc".into()]);
        assert_eq!(table.to_string(), "BY\na [2Jb c\n");
    }

    #[test]
    fn ages_read_as_in_kubectl() {
        let now: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        for (since, expected) in [
            ("2026-03-02T12:00:05Z", "0s"),
            ("2026-03-02T11:58:01Z", "119s"),
            ("2026-03-02T11:58:00Z", "2m"),
            ("2026-03-02T10:00:00Z", "2h"),
            ("2026-03-01T12:00:00Z", "1d"),
        ] {
            assert_eq!(age(Some(since.parse().unwrap()), now), expected);
        }
        assert_eq!(age(None, now), "<unknown>");
    }

    #[test]
    fn several_manifests_are_a_yaml_stream_or_a_json_list() {
        let items = [serde_json::json!({"a": 1}), serde_json::json!({"a": 2})];
        let (mut output, text, _) = captured(Format::Yaml);
        output.manifests(&items).unwrap();
        assert_eq!(text.text(), "a: 1\n---\na: 2\n");
        let (mut output, text, _) = captured(Format::Json);
        output.manifests(&items).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text.text()).unwrap()["items"], serde_json::json!(items));
        let (mut output, text, _) = captured(Format::Json);
        output.manifests(&items[..1]).unwrap();
        assert_eq!(text.text(), "{\n  \"a\": 1\n}\n");
    }
}
