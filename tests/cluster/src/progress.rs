//! Long steps that say what they do, and how long they have been at it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const EVERY: Duration = Duration::from_secs(15);
/// How much of a log is shown with an error.
const TAIL_BYTES: u64 = 4096;

/// Runs a command that may take minutes: says `what` first, the elapsed seconds now and then, and the end of the
/// command's output if it fails.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    run_with(what, command, Stdio::null())
}

/// The same for a command that gets something on standard input.
pub(crate) fn run_with(what: &str, command: &mut Command, stdin: Stdio) -> Result<()> {
    let started = Instant::now();
    eprintln!("{what} ...");
    let mut output = tempfile::tempfile()?;
    let mut child = command
        .stdin(stdin)
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()
        .with_context(|| format!("{what}: run {}", command.get_program().display()))?;
    let mut next = EVERY;
    let status: ExitStatus = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() >= next {
            eprintln!("{what} ... {} s", next.as_secs());
            next += EVERY;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        bail!("{what}: {status}\n{}", tail(&mut output)?);
    }
    eprintln!("{what}: done after {:.0} s", started.elapsed().as_secs_f32());
    Ok(())
}

/// The end of a file, from the first whole line on.
pub(crate) fn tail(file: &mut File) -> Result<String> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = match text.split_once('\n') {
        Some((_, rest)) if start > 0 => rest,
        _ => &text,
    };
    Ok(whole.trim_end().to_owned())
}
