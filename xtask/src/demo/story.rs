//! What the demo prints: numbered steps with their times, and the commands as people would type them.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

/// The steps so far.
pub(super) struct Story {
    started: Instant,
    step: u32,
}

impl Story {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), step: 0 }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}. {title}  [{:.1} s]", self.step, self.seconds());
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f32 {
        self.started.elapsed().as_secs_f32()
    }
}

/// Shows a command and what it prints. A failure is an error.
pub(super) fn show(command: &mut Command) -> Result<String> {
    say(command, None);
    let output = command_output(command)?;
    quote(&String::from_utf8_lossy(&output.stderr));
    finish(command, &output)
}

/// The same, with something on standard input that is not shown.
pub(super) fn show_with_input(command: &mut Command, what: &str, input: &[u8]) -> Result<String> {
    say(command, Some(what));
    let output = output_with_input(command, input)?;
    finish(command, &output)
}

/// Shows a command that is to fail, with something on standard input. Returns its exit code and what it said.
pub(super) fn show_refusal(command: &mut Command, what: &str, input: &[u8]) -> Result<(Option<i32>, String)> {
    say(command, Some(what));
    let output = output_with_input(command, input)?;
    quote(&String::from_utf8_lossy(&output.stdout));
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Runs a command without a word. A failure is an error with what it printed.
pub(super) fn quiet(command: &mut Command) -> Result<String> {
    let output = command_output(command)?;
    if !output.status.success() {
        bail!("{}: {}", name(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Indents lines below a step.
pub(super) fn quote(text: &str) {
    for line in text.trim_end().lines() {
        println!("   | {line}");
    }
}

fn command_output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("run {}", name(command)))
}

/// Shows standard error line by line, as it comes: that is where progress is told.
fn output_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", name(command)))?;
    child.stdin.take().context("standard input")?.write_all(input)?;
    let mut stdout = child.stdout.take().context("standard output")?;
    let results = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let mut stderr = Vec::new();
    for line in BufReader::new(child.stderr.take().context("standard error")?).split(b'\n') {
        let line = line?;
        quote(&String::from_utf8_lossy(&line));
        stderr.extend(line);
        stderr.push(b'\n');
    }
    let stdout = results.join().map_err(|_| anyhow!("the output could not be read"))??;
    Ok(Output { status: child.wait()?, stdout, stderr })
}

fn finish(command: &Command, output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    quote(&text);
    if !output.status.success() {
        bail!("{}: {}", name(command), output.status);
    }
    Ok(text)
}

fn say(command: &Command, input: Option<&str>) {
    let mut line = name(command);
    for argument in command.get_args() {
        let text = argument.to_string_lossy();
        let quote = if text.contains([' ', '{', '$']) { "'" } else { "" };
        line = format!("{line} {quote}{text}{quote}");
    }
    let input = input.map(|input| format!("    (standard input: {input})")).unwrap_or_default();
    println!("   $ {line}{input}");
}

fn name(command: &Command) -> String {
    let program = command.get_program();
    let file = std::path::Path::new(program).file_name().unwrap_or(OsStr::new(program));
    file.to_string_lossy().into_owned()
}
