//! Programs that come from the system's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::progress;

/// A program, and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name of the package.
    pub name: &'static str,
    /// A program that is there once the package is.
    pub program: &'static str,
}

/// What a node needs.
pub const NODE: &[Package] = &[
    Package { name: "containerd", program: "containerd" },
    Package { name: "runc", program: "runc" },
    Package { name: "containernetworking-plugins", program: "loopback" },
    Package { name: "iproute2", program: "ip" },
    Package { name: "iptables", program: "iptables" },
    Package { name: "conntrack", program: "conntrack" },
];

/// What [`crate::image::Image::busybox`] is made of.
pub const BUSYBOX: &[Package] = &[Package { name: "busybox-static", program: "busybox" }];

/// What it takes to build an image from a Containerfile without a registry.
pub const BUILD_IMAGES: &[Package] =
    &[Package { name: "mmdebstrap", program: "mmdebstrap" }, Package { name: "buildah", program: "buildah" }];

/// What [`crate::python::environment_of`] needs. A `python3` alone does not tell whether it can make environments.
pub const PYTHON: &[Package] = &[Package { name: "python3-venv", program: "python3" }];

/// Folders of programs that are not always in `PATH`: of the administrator, and of CNI.
const FOLDERS: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/cni", "/opt/cni/bin"];

/// Installs what is missing, after saying so, where apt can be asked as root; elsewhere an error names the command.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| find(package.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// The same for packages that were found to be missing, whatever programs there are.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
    let names: Vec<_> = packages.iter().map(|package| package.name).collect();
    let programs: Vec<_> = packages.iter().map(|package| package.program).collect();
    if find("apt-get").is_none() {
        bail!("these programs are missing: {}; install them (on Debian: {})", programs.join(", "), names.join(" "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "these programs are missing: {}; type: sudo apt-get update && sudo apt-get install -y {}",
            programs.join(", "),
            names.join(" ")
        );
    }
    eprintln!("installing packages that are missing here: {}", names.join(" "));
    progress::run("apt-get update", apt(&["update"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    progress::run(
        "apt-get install",
        apt(&["install", "--yes", "--no-install-recommends"]).args(&names).env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    match packages.iter().find(|package| find(package.program).is_none()) {
        Some(package) => bail!("{} was installed, but there is no {}", package.name, package.program),
        None => Ok(()),
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // Another apt may be at work, as on a machine that was started just now.
    command.args(["--quiet", "--option", "DPkg::Lock::Timeout=300"]).args(arguments);
    command
}

/// Looks a program up in `PATH` and where system programs are.
pub fn find(program: &str) -> Option<PathBuf> {
    find_all(program).next()
}

/// All programs of that name, in the order of `PATH`.
pub(crate) fn find_all(program: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from)).collect();
    folders.into_iter().map(move |folder| folder.join(program)).filter(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_missed() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
        assert_eq!(find("../bin"), None, "a folder is no program");
    }

    #[test]
    fn what_is_there_is_not_installed() {
        ensure(&[Package { name: "no-such-package", program: "sh" }]).unwrap();
    }
}
