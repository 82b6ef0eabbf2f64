//! `cargo xtask image` and `cargo xtask runner-image`: images without a registry or a daemon.
//!
//! Users build the Containerfiles below `images/` as they stand. Here they get a base that is made of this machine's own
//! release. The operator's stage `runtime` gets the program that cargo has built, which was linked to that release's
//! libc; the runner's image is built as a whole.

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

/// Where the images' names begin; no registry has them.
const REPOSITORY: &str = "daypass.test";
/// What the operator's base has beside the essential packages.
const INCLUDE: &str = "ca-certificates";
/// What the runner's base has: a Python that can make environments.
const INCLUDE_PYTHON: &str = "ca-certificates,python3,python3-venv";
/// How many digits of a hash make a name.
const DIGITS: usize = 16;

/// An image in a file.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// What it is an image of.
    pub(crate) name: &'static str,
    /// Its tag, which names its content.
    pub(crate) tag: String,
    /// A docker-archive.
    pub(crate) archive: PathBuf,
}

impl Built {
    /// The whole name, as Pods use it.
    pub(crate) fn reference(&self) -> String {
        format!("{REPOSITORY}/{}:{}", self.name, self.tag)
    }

    /// How the tests on a node learn of it.
    pub(crate) fn variables(&self) -> [(String, String); 2] {
        let name = self.name.to_uppercase();
        [
            (format!("DAYPASS_{name}_IMAGE"), self.reference()),
            (format!("DAYPASS_{name}_ARCHIVE"), self.archive.display().to_string()),
        ]
    }

    fn in_folder(folder: &Path, name: &'static str, tag: String) -> Self {
        Self { name, archive: folder.join(format!("{name}-{tag}.tar")), tag }
    }

    /// Prints its name and its file, one a line.
    fn print(&self) {
        println!("{}\n{}", self.reference(), self.archive.display());
    }
}

/// Builds the operator's image and prints where it is.
pub(crate) fn run(root: &Path) -> Result<()> {
    build(root)?.print();
    Ok(())
}

/// The same for the runner's.
pub(crate) fn run_runner(root: &Path) -> Result<()> {
    build_runner(root)?.print();
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

/// The folder of images, and the lock on it: two builds at once would do the same work twice, and clean each other's
/// files away.
fn locked_folder(containerfile: &str) -> Result<(PathBuf, File)> {
    ensure!(is_root(), "an image is built as root here; with docker or podman: {containerfile}");
    packages::ensure(packages::BUILD_IMAGES)?;
    let folder = paths::cache()?.join("images");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    Ok((folder, lock))
}

/// Builds the operator's image, or takes the one that was built from the same parts before.
pub(crate) fn build(root: &Path) -> Result<Built> {
    let program = program(root)?;
    let (folder, _lock) = locked_folder("images/operator/Containerfile")?;

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
    let built = Built::in_folder(&folder, "operator", tag);
    if built.archive.is_file() {
        return Ok(built);
    }

    eprintln!("building the operator's image {} ...", built.reference());
    let started = Instant::now();
    let buildah = Buildah { storage: folder.join("buildah") };
    let base = base_of(&buildah, &folder, &base, &release, INCLUDE)?;
    let runtime = format!("localhost/daypass-runtime:{runtime}");
    if !buildah.has(&runtime)? {
        buildah.build(&base, &runtime, &["--target", "runtime"], &containerfile, context.path())?;
    }
    add_program(&buildah, &runtime, &stripped, &built)?;
    remove_older(&folder, &built)?;
    eprintln!("building the operator's image: done after {:.0} s", started.elapsed().as_secs_f32());
    Ok(built)
}

/// Builds the runner's image for Inspect, or takes the one that was built from the same parts before.
pub(crate) fn build_runner(root: &Path) -> Result<Built> {
    let context = root.join("images/runner");
    let containerfile = context.join("Containerfile");
    let (folder, _lock) = locked_folder("images/runner/Containerfile")?;
    let release = release()?;
    let base = hash(&[release.as_bytes(), INCLUDE_PYTHON.as_bytes()]);
    let mut parts = vec![base.clone().into_bytes(), fs::read(&containerfile)?];
    for path in
        files(&context.join("daypass_runner"), "py")?.into_iter().chain(files(&context.join("requirements"), "txt")?)
    {
        parts.push(path.file_name().unwrap_or_default().as_encoded_bytes().to_owned());
        parts.push(fs::read(&path)?);
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let built = Built::in_folder(&folder, "runner", hash(&parts));
    if built.archive.is_file() {
        return Ok(built);
    }

    eprintln!("building the runner's image {} (minutes the first time) ...", built.reference());
    let started = Instant::now();
    let buildah = Buildah { storage: folder.join("buildah") };
    let base = base_of(&buildah, &folder, &base, &release, INCLUDE_PYTHON)?;
    let name = format!("localhost/daypass-runner:{}", built.tag);
    // With layers: what changes is the runner, and the packages are most of the image.
    let mut options = vec!["--layers".to_owned()];
    if let Some(bundle) = std::env::var("SSL_CERT_FILE").ok().filter(|path| Path::new(path).is_file()) {
        // Of a proxy that packages are fetched through; nothing of it stays in the image.
        options.extend(["--volume".to_owned(), format!("{bundle}:/etc/ssl/certs/ca-certificates.crt:ro")]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    buildah.build(&base, &name, &options, &containerfile, &context)?;
    push(&buildah, &name, &built)?;
    remove_older(&folder, &built)?;
    eprintln!("building the runner's image: done after {:.0} s", started.elapsed().as_secs_f32());
    Ok(built)
}

/// The files of a folder whose names end so, in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension() == Some(OsStr::new(extension)));
    paths.sort();
    Ok(paths)
}

/// The name of the base that has those packages, made the first time.
fn base_of(buildah: &Buildah, folder: &Path, hash: &str, release: &str, include: &str) -> Result<String> {
    let name = format!("localhost/daypass-base:{hash}");
    if !buildah.has(&name)? {
        make_base(buildah, &name, release, include, &folder.join(format!("base-{hash}.tar")))?;
    }
    Ok(name)
}

/// The release of this machine, as its archive of packages calls it.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no VERSION_CODENAME: the local image needs a Debian-like system")
}

/// A file system with the essential packages and those of `include`, as an image.
fn make_base(buildah: &Buildah, name: &str, release: &str, include: &str, archive: &Path) -> Result<()> {
    if !archive.is_file() {
        eprintln!("making a base of {release} with mmdebstrap (about a minute, once) ...");
        let unfinished = archive.with_extension("tmp");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--format=tar", &format!("--include={include}")]);
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
    push(buildah, &name, built)?;
    call("buildah rmi", &mut buildah.command(&["rmi", &name]))?;
    Ok(())
}

/// Writes an image into the file that is for it.
fn push(buildah: &Buildah, name: &str, built: &Built) -> Result<()> {
    let unfinished = built.archive.with_extension("tmp");
    // A push does not write over a file.
    if unfinished.exists() {
        fs::remove_file(&unfinished)?;
    }
    let target = format!("docker-archive:{}:{}", unfinished.display(), built.reference());
    call("buildah push", &mut buildah.command(&["push", "--quiet", name, &target]))?;
    fs::rename(&unfinished, &built.archive)?;
    Ok(())
}

/// Each build of a program makes an image; the last one is enough.
fn remove_older(folder: &Path, newest: &Built) -> Result<()> {
    let prefix = format!("{}-", newest.name);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_image = path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(&prefix));
        if is_image && path != newest.archive {
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

    /// Builds a Containerfile without asking any registry.
    fn build(&self, base: &str, image: &str, options: &[&str], containerfile: &Path, context: &Path) -> Result<()> {
        let mut command = self.command(&["build", "--isolation", "chroot", "--network", "host", "--pull-never"]);
        command.args(options).args(["--build-arg", &format!("BASE={base}"), "--tag", image, "--file"]);
        call("buildah build", command.arg(containerfile).arg(context)).map(drop)
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
        for name in ["operator-1.tar", "operator-2.tar", "operator-1.tmp", "runner-1.tar", "lock"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_older(folder.path(), &Built::in_folder(folder.path(), "operator", "2".to_owned())).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["lock", "operator-2.tar", "runner-1.tar"]);
    }
}
