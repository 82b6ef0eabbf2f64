//! `cargo xtask image`: the operator's image from this machine's build, without a registry or a daemon.
//!
//! Users build `images/operator/Containerfile` as it stands, from source. Here its stage `runtime` gets a base that is
//! made of this machine's own release (whose libc the program was linked to), and the program that cargo has built.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use daypass_testcluster::{packages, paths};
use sha2::{Digest as _, Sha256};

use crate::cargo::cargo;

/// The image's name; no registry has it.
const REPOSITORY: &str = "daypass.test/operator";
/// What the base has beside the essential packages.
const INCLUDE: &str = "ca-certificates";
/// How many digits of a hash make a name.
const DIGITS: usize = 16;

/// An image in a file.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// Its tag, which names its content.
    pub(crate) tag: String,
    /// A docker-archive.
    pub(crate) archive: PathBuf,
}

impl Built {
    /// The whole name, as Pods use it.
    pub(crate) fn reference(&self) -> String {
        format!("{REPOSITORY}:{}", self.tag)
    }

    /// How the tests on a node learn of it.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        [("DAYPASS_OPERATOR_IMAGE", self.reference()), ("DAYPASS_OPERATOR_ARCHIVE", self.archive.display().to_string())]
    }
}

/// Builds it and prints its name and its file, one a line.
pub(crate) fn run(root: &Path) -> Result<()> {
    let built = build(root)?;
    println!("{}\n{}", built.reference(), built.archive.display());
    Ok(())
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The program that cargo builds for tests and demo: not optimized, as an optimized one takes minutes.
pub(crate) fn program(root: &Path) -> Result<PathBuf> {
    let status = cargo(root, &["build", "--workspace", "--bins", "--quiet"]).status().context("run cargo")?;
    ensure!(status.success(), "the program does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = root.join(target).join("debug/daypass");
    ensure!(program.is_file(), "cargo has built no {}", program.display());
    Ok(program)
}

/// Builds the image, or takes the one that was built from the same parts before.
pub(crate) fn build(root: &Path) -> Result<Built> {
    let program = program(root)?;
    ensure!(is_root(), "an image is built as root here; with docker or podman: images/operator/Containerfile");
    packages::ensure(packages::BUILD_IMAGES)?;
    let folder = paths::cache()?.join("images");
    fs::create_dir_all(&folder)?;
    // Two at once would do the same work twice, and clean each other's files away.
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;

    let context = tempfile::tempdir_in(&folder)?;
    let stripped = context.path().join("daypass");
    call("strip", Command::new("strip").arg("-o").arg(&stripped).arg(&program))?;
    let containerfile = root.join("images/operator/Containerfile");
    let release = release()?;
    let base = hash(&[release.as_bytes(), INCLUDE.as_bytes()]);
    let runtime = hash(&[base.as_bytes(), &fs::read(&containerfile)?]);
    // A program of its own, as hashing 40 MB takes long in a program that is not optimized.
    let digest = call("sha256sum", Command::new("sha256sum").arg("--binary").stdin(File::open(&stripped)?))?;
    let tag = hash(&[runtime.as_bytes(), digest.as_bytes()]);
    let built = Built { archive: folder.join(format!("operator-{tag}.tar")), tag };
    if built.archive.is_file() {
        return Ok(built);
    }

    eprintln!("building the operator's image {} ...", built.reference());
    let started = Instant::now();
    let buildah = Buildah { storage: folder.join("buildah") };
    let archive = folder.join(format!("base-{base}.tar"));
    let base = format!("localhost/daypass-base:{base}");
    let runtime = format!("localhost/daypass-runtime:{runtime}");
    if !buildah.has(&base)? {
        make_base(&buildah, &base, &release, &archive)?;
    }
    if !buildah.has(&runtime)? {
        let arguments = ["build", "--isolation", "chroot", "--network", "host", "--target", "runtime", "--build-arg"];
        let mut command = buildah.command(&arguments);
        command.arg(format!("BASE={base}")).args(["--tag", &runtime, "--file"]).arg(&containerfile).arg(context.path());
        call("buildah build", &mut command)?;
    }
    add_program(&buildah, &runtime, &stripped, &built)?;
    remove_older(&folder, &built.archive)?;
    eprintln!("building the operator's image: done after {:.0} s", started.elapsed().as_secs_f32());
    Ok(built)
}

/// The release of this machine, as its archive of packages calls it.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no VERSION_CODENAME: the local image needs a Debian-like system")
}

/// A file system with the essential packages and `INCLUDE`, as an image.
fn make_base(buildah: &Buildah, name: &str, release: &str, archive: &Path) -> Result<()> {
    if !archive.is_file() {
        eprintln!("making a base of {release} with mmdebstrap (about a minute, once) ...");
        let unfinished = archive.with_extension("tmp");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--format=tar", &format!("--include={INCLUDE}")]);
        for path in ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"] {
            command.arg(format!("--dpkgopt=path-exclude={path}"));
        }
        call("mmdebstrap", command.arg(release).arg(&unfinished))?;
        fs::rename(&unfinished, archive)?;
    }
    buildah.compose("scratch", name, |container| {
        call("buildah add", buildah.command(&["add", "--quiet", container]).arg(archive)).map(drop)
    })
}

fn add_program(buildah: &Buildah, runtime: &str, program: &Path, built: &Built) -> Result<()> {
    let name = format!("localhost/daypass-operator:{}", built.tag);
    buildah.compose(runtime, &name, |container| {
        let mut command = buildah.command(&["copy", "--quiet", "--chown", "0:0", "--chmod", "0755", container]);
        call("buildah copy", command.arg(program).arg("/usr/local/bin/daypass")).map(drop)
    })?;
    let unfinished = built.archive.with_extension("tmp");
    // A push does not write over a file.
    if unfinished.exists() {
        fs::remove_file(&unfinished)?;
    }
    let target = format!("docker-archive:{}:{}", unfinished.display(), built.reference());
    call("buildah push", &mut buildah.command(&["push", "--quiet", &name, &target]))?;
    call("buildah rmi", &mut buildah.command(&["rmi", &name]))?;
    fs::rename(&unfinished, &built.archive)?;
    Ok(())
}

/// Each build of the program makes an image; the last one is enough.
fn remove_older(folder: &Path, newest: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_image = path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("operator-"));
        if is_image && path != newest {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// buildah with a storage of its own, so that the machine's images stay as they are.
struct Buildah {
    storage: PathBuf,
}

impl Buildah {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.storage.join("root")).arg("--runroot").arg(self.storage.join("run"));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn has(&self, image: &str) -> Result<bool> {
        let mut command = self.command(&["inspect", "--type", "image", image]);
        Ok(command.output().context("run buildah")?.status.success())
    }

    /// Makes an image of another one and what `change` does to it.
    fn compose(&self, from: &str, image: &str, change: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        let container = call("buildah from", &mut self.command(&["from", "--pull-never", from]))?;
        let container = container.trim();
        let made = change(container)
            .and_then(|()| call("buildah commit", &mut self.command(&["commit", "--quiet", container, image])));
        // Also after a failure: a container left over would be in the way of nobody, but takes space.
        let removed = call("buildah rm", &mut self.command(&["rm", container]));
        made.and(removed).map(drop)
    }
}

/// Runs a command and returns what it printed. Its errors are in the error.
fn call(what: &str, command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{what}: run {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::new();
    for byte in hash.finalize().iter().take(DIGITS / 2) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_parts_apart() {
        assert_eq!(hash(&[b"a"]).len(), DIGITS);
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_eq!(hash(&[b"a"]), hash(&[b"a"]));
    }

    #[test]
    fn only_older_images_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["operator-1.tar", "operator-2.tar", "operator-1.tmp", "lock"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_older(folder.path(), &folder.path().join("operator-2.tar")).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["lock", "operator-2.tar"]);
    }
}
