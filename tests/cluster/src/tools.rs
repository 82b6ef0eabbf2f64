//! The programs a cluster is made of, built from source once and kept in the cache folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{paths, progress};

const HELM_VERSION: &str = "v4.3.1";
/// The newest Go that one of the modules asks for (`go.mod` of ours, `go.mod` of helm).
const GO_FOR_KUBERNETES: (u32, u32) = (1, 25);
const GO_FOR_HELM: (u32, u32) = (1, 26);

/// Paths of the built programs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tools {
    /// All servers of Kubernetes and etcd in one program; the first argument says which.
    pub kubernetes: PathBuf,
    /// The same program under the name `kubectl`.
    pub kubectl: PathBuf,
    /// The program that owns a cluster's processes.
    pub supervisor: PathBuf,
}

impl Tools {
    /// Builds what is not in the cache yet: minutes the first time, and it says so on standard error.
    pub fn ensure() -> Result<Self> {
        if let Some(folder) = std::env::var_os("DAYPASS_TOOLS") {
            return Self::of(Path::new(&folder));
        }
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes");
        let key = hash(&module)?;
        let folder = cached(&format!("kubernetes-{}", &key[..16]), |folder| build_kubernetes(&module, folder))?;
        Self::of(&folder)
    }

    fn of(folder: &Path) -> Result<Self> {
        let [kubernetes, kubectl, supervisor] = ["kubernetes", "kubectl", "supervisor"].map(|name| folder.join(name));
        for program in [&kubernetes, &kubectl, &supervisor] {
            ensure!(program.is_file(), "there is no {}", program.display());
        }
        Ok(Self { kubernetes, kubectl, supervisor })
    }

    /// Builds helm if it is not in the cache yet, and returns its path.
    pub fn helm() -> Result<PathBuf> {
        if let Some(folder) = std::env::var_os("DAYPASS_TOOLS") {
            return Ok(Path::new(&folder).join("helm"));
        }
        Ok(cached(&format!("helm-{HELM_VERSION}"), build_helm)?.join("helm"))
    }
}

/// Returns the folder of that name, which `build` fills the first time. Several processes may ask at once: one builds,
/// the others wait. A build that is killed leaves nothing that could be taken for a finished one.
fn cached(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let tools = paths::tools()?;
    let finished = tools.join(name);
    if finished.is_dir() {
        return Ok(finished);
    }
    let lock = File::create(tools.join(format!("{name}.lock")))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another process that builds {name} ...");
        lock.lock()?;
    }
    if finished.is_dir() {
        return Ok(finished);
    }
    let temporary = tools.join(format!("{name}.tmp"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary)?;
    }
    fs::create_dir(&temporary)?;
    build(&temporary)?;
    fs::rename(&temporary, &finished)?;
    Ok(finished)
}

fn build_kubernetes(module: &Path, folder: &Path) -> Result<()> {
    let go = go(GO_FOR_KUBERNETES)?;
    let version = kubernetes_version(&fs::read_to_string(module.join("go.mod"))?)?;
    let mut output = folder.as_os_str().to_owned();
    output.push("/");
    progress::run(
        &format!("building Kubernetes {version} with {go} (about 8 minutes on 2 cores, once)"),
        Command::new("go")
            .current_dir(module)
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly"])
            .arg(format!("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={version}"))
            .arg("-o")
            .arg(output)
            .args([".", "./supervisor"]),
    )?;
    std::os::unix::fs::symlink("kubernetes", folder.join("kubectl"))?;
    Ok(())
}

fn build_helm(folder: &Path) -> Result<()> {
    let go = go(GO_FOR_HELM)?;
    progress::run(
        &format!("building helm {HELM_VERSION} with {go} (about 3 minutes on 2 cores, once)"),
        Command::new("go")
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOBIN", folder)
            .args(["install", "-trimpath", "-ldflags=-s -w"])
            .arg(format!("helm.sh/helm/v4/cmd/helm@{HELM_VERSION}")),
    )
}

/// Checks that Go is there and new enough, and returns its version.
fn go(least: (u32, u32)) -> Result<String> {
    let wanted = format!("Go {}.{} or newer is needed in PATH (https://go.dev/doc/install)", least.0, least.1);
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output()
        .with_context(|| wanted.clone())?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "{wanted}; `go env` says: {}", String::from_utf8_lossy(&output.stderr));
    match parse_go_version(&version) {
        Some(found) if found >= least => Ok(version),
        _ => bail!("{wanted}; found {version}"),
    }
}

fn parse_go_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("go")?.split(['.', 'r', 'b', '-', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kubernetes_version(go_mod: &str) -> Result<String> {
    let mut lines = go_mod.lines().map(str::split_whitespace);
    lines
        .find_map(|mut words| (words.next() == Some("k8s.io/kubernetes")).then(|| words.next()).flatten())
        .map(str::to_owned)
        .context("go.mod names no version of k8s.io/kubernetes")
}

/// SHA-256 over all files of the Go module, as hexadecimal digits.
fn hash(module: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![module.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "go.mod" || name == "go.sum")
                || path.extension().is_some_and(|extension| extension == "go")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = fs::read(&file)?;
        hash.update(file.strip_prefix(module)?.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    Ok(hex(&hash.finalize()))
}

/// Hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions() {
        assert_eq!(parse_go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse_go_version("go1.25 X:nocoverageredesign"), Some((1, 25)));
        assert_eq!(parse_go_version("devel +1234"), None);
    }

    #[test]
    fn the_version_comes_from_go_mod() {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/go.mod");
        let version = kubernetes_version(&fs::read_to_string(module).unwrap()).unwrap();
        assert!(version.starts_with("v1.35."), "{version}");
    }

    #[test]
    fn the_hash_follows_every_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        let mut seen = std::collections::HashSet::new();
        for (name, content) in [("go.mod", "a"), ("go.mod", "b"), ("main.go", "a"), ("inner/main.go", "a")] {
            fs::write(folder.path().join(name), content).unwrap();
            assert!(seen.insert(hash(folder.path()).unwrap()), "{name}");
        }
        fs::write(folder.path().join("README.md"), "not part of the build").unwrap();
        assert!(!seen.insert(hash(folder.path()).unwrap()));
    }
}
