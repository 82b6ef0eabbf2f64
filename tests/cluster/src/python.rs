//! Python programs from pinned packages, in an environment of their own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::packages::{self, Package};
use crate::tools::hex;
use crate::{paths, progress};

/// The oldest Python that all pinned packages are for.
const LEAST: (u32, u32) = (3, 11);
/// Says version and place of the interpreter behind whatever wrapper was called; fails where environments cannot be made.
const PROBE: &str = "import ensurepip, os, sys, venv; \
    print(*sys.version_info[:3]); print(os.path.realpath(getattr(sys, '_base_executable', sys.executable)))";
/// Stands in an environment that has everything. An environment cannot be made aside and renamed, for its programs name
/// their interpreter by its whole path.
const FINISHED: &str = "finished";

/// Returns the folder of an environment with the packages of `files`, made the first time: `bin/python` is in it, and
/// the packages' programs. `purpose` completes "installing Python packages for ...".
///
/// The files are pip's requirements, each package pinned and with hashes. Packages that would have to be built are
/// refused. Several processes may ask at once: one makes it, the others wait. An environment whose making was cut off is
/// never returned.
pub fn environment_of(files: &[PathBuf], purpose: &str) -> Result<PathBuf> {
    let python = Python::ensure()?;
    let name = name(&python, files)?;
    let environments = paths::python()?;
    let environment = environments.join(&name);
    if is_finished(&environment) {
        return Ok(environment);
    }
    let lock = File::create(environments.join(format!("{name}.lock")))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another process that installs Python packages for {purpose} ...");
        lock.lock()?;
    }
    if !is_finished(&environment) {
        remove(&environment)?;
        if let Err(error) = make(&python, &environment, files, purpose, &lock) {
            remove(&environment)?;
            return Err(error);
        }
    }
    Ok(environment)
}

/// The interpreter itself, for what needs no packages. Installs it if there is none.
pub fn program() -> Result<PathBuf> {
    Ok(Python::ensure()?.program)
}

/// The folder of an environment with what the evaluation runner's image for Inspect has, and pytest; made the first time.
pub fn environment_of_runner() -> Result<PathBuf> {
    environment_of(&["inspect.txt", "test.txt"].map(runner_requirements), "the evaluation runner")
}

/// The same with what the image for the LM Evaluation Harness has.
pub fn environment_of_harness() -> Result<PathBuf> {
    environment_of(&[runner_requirements("lmeval.txt")], "the LM Evaluation Harness")
}

fn runner_requirements(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/runner/requirements").join(name)
}

/// An interpreter that can make environments.
#[derive(Debug)]
struct Python {
    program: PathBuf,
    version: String,
}

impl Python {
    /// The first one that is good enough; where there is none, the system's package is installed.
    fn ensure() -> Result<Self> {
        if let Some(python) = Self::find() {
            return Ok(python);
        }
        let missing = || {
            format!("no python3 is of version {}.{} or newer and has the modules venv and ensurepip", LEAST.0, LEAST.1)
        };
        packages::install(packages::PYTHON).with_context(missing)?;
        Self::find().with_context(missing)
    }

    fn find() -> Option<Self> {
        let Package { program, .. } = packages::PYTHON[0];
        packages::find_all(program).find_map(|program| Self::of(&program))
    }

    fn of(program: &Path) -> Option<Self> {
        let output = Command::new(program).args(["-I", "-c", PROBE]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        let mut lines = text.lines();
        let version = lines.next().filter(|version| is_new_enough(version))?.replace(' ', ".");
        Some(Self { program: PathBuf::from(lines.next()?), version })
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(' ').map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version| version >= LEAST)
}

/// Another interpreter or another pin makes another environment.
fn name(python: &Python, files: &[PathBuf]) -> Result<String> {
    ensure!(!files.is_empty(), "an environment is made of at least one file of requirements");
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(python.program.as_os_str().as_encoded_bytes());
    add(python.version.as_bytes());
    for file in files {
        add(&fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(hex(&hash.finalize())[..16].to_owned())
}

/// The interpreter is a link, which may have lost what it points to.
fn is_finished(environment: &Path) -> bool {
    environment.join(FINISHED).is_file() && environment.join("bin/python").is_file()
}

/// The programs that are called hold the lock too, as their standard input: they go on where this process is killed, and
/// nobody may clear away what they still write.
fn make(python: &Python, environment: &Path, files: &[PathBuf], purpose: &str, lock: &File) -> Result<()> {
    let made =
        Command::new(&python.program).args(["-I", "-m", "venv"]).arg(environment).stdin(lock.try_clone()?).output()?;
    if !made.status.success() {
        let output = [made.stdout, made.stderr].concat();
        bail!("make a Python environment: {}\n{}", made.status, String::from_utf8_lossy(&output).trim());
    }
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"])
        .args(["--require-hashes", "--only-binary", ":all:"])
        .args(files.iter().flat_map(|file| [OsString::from("--requirement"), file.into()]));
    let what = format!("installing Python packages for {purpose} with Python {}", python.version);
    progress::run_with(&what, &mut pip, lock.try_clone()?.into())?;
    File::create(environment.join(FINISHED))?;
    Ok(())
}

fn remove(environment: &Path) -> Result<()> {
    // The mark first: what remains of a removal that is cut off must not look finished.
    for result in [fs::remove_file(environment.join(FINISHED)), fs::remove_dir_all(environment)] {
        match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", environment.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, good) in [("3 11 0", true), ("3 9 18", false), ("4 0 0", true), ("3 100 1", true), ("3", false)] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }

    #[test]
    fn another_pin_or_interpreter_is_another_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let python = |program: &str, version: &str| Python { program: program.into(), version: version.into() };
        let (one, other) = (file("one", "a==1"), file("other", "a==2"));
        let names = [
            name(&python("/usr/bin/python3.11", "3.11.2"), std::slice::from_ref(&one)),
            name(&python("/usr/bin/python3.11", "3.11.3"), std::slice::from_ref(&one)),
            name(&python("/usr/local/bin/python3.11", "3.11.2"), std::slice::from_ref(&one)),
            name(&python("/usr/bin/python3.11", "3.11.2"), std::slice::from_ref(&other)),
            name(&python("/usr/bin/python3.11", "3.11.2"), &[one, other]),
        ];
        let distinct: std::collections::HashSet<_> = names.into_iter().map(Result::unwrap).collect();
        assert_eq!(distinct.len(), 5);
        assert!(name(&python("/usr/bin/python3", "3.11.2"), &[]).is_err());
    }

    #[test]
    fn what_was_cut_off_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let environment = folder.path().join("environment");
        fs::create_dir_all(environment.join("bin")).unwrap();
        fs::write(environment.join("bin/python"), "").unwrap();
        assert!(!is_finished(&environment));
        fs::write(environment.join(FINISHED), "").unwrap();
        assert!(is_finished(&environment));
        remove(&environment).unwrap();
        assert!(!environment.exists());
        remove(&environment).unwrap();
    }
}
