//! Container images made from files of this machine, without a registry: a docker-archive with one layer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::packages;
use crate::tools::hex;

/// An image in the making. Paths are those in the container, from the root on; folders above a file need not be named.
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    entries: BTreeMap<String, Entry>,
    user: String,
    working_dir: String,
    env: Vec<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    mode: u32,
    owner: u32,
}

#[derive(Clone, Debug)]
enum Kind {
    File(Vec<u8>),
    Folder,
    Link(String),
}

impl Image {
    /// An empty image, such as `daypass.test/tool:1`. Give it a tag: only `latest` is pulled always.
    pub fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            entries: BTreeMap::new(),
            user: String::new(),
            working_dir: String::new(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            entrypoint: Vec::new(),
            command: Vec::new(),
        }
    }

    /// An image with a shell, the usual small programs, `/tmp`, and the users root (0) and nobody (65534). Its user is
    /// root as long as nothing else is said. Installs the static busybox of the system if it is missing.
    pub fn busybox(reference: &str) -> Result<Self> {
        packages::ensure(packages::BUSYBOX)?;
        let program = packages::find("busybox").context("busybox is not installed")?;
        let listed = std::process::Command::new(&program).arg("--list").output()?;
        let mut image = Self::new(reference)
            .file("/bin/busybox", 0o755, fs::read(&program)?)
            .folder("/tmp", 0o1777, 0)
            .folder("/root", 0o700, 0)
            .file("/etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
            .file("/etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n")
            .command(&["/bin/sh"]);
        for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|&applet| applet != "busybox") {
            image = image.link(&format!("/bin/{applet}"), "busybox");
        }
        Ok(image)
    }

    /// Adds a file that belongs to root.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, Entry { kind: Kind::File(content.into()), mode, owner: 0 })
    }

    /// Adds a folder that belongs to a user ID, and to the group of the same number.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32, owner: u32) -> Self {
        self.entry(path, Entry { kind: Kind::Folder, mode, owner })
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, Entry { kind: Kind::Link(target.to_owned()), mode: 0o777, owner: 0 })
    }

    /// The user of the image, by number or by name. A name must be in its `/etc/passwd`: see [`Image::add_user`].
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Adds a line to `/etc/passwd` (and the group to `/etc/group`), without making it the image's user.
    #[must_use]
    pub fn add_user(mut self, name: &str, id: u32) -> Self {
        for (path, line) in
            [("etc/passwd", format!("{name}:x:{id}:{id}::/:/bin/sh\n")), ("etc/group", format!("{name}:x:{id}:\n"))]
        {
            let entry = self.entries.entry(path.to_owned());
            let entry = entry.or_insert(Entry { kind: Kind::File(Vec::new()), mode: 0o644, owner: 0 });
            if let Kind::File(content) = &mut entry.kind {
                content.extend_from_slice(line.as_bytes());
            }
        }
        self
    }

    /// The folder where the container starts. It is not made: see [`Image::folder`].
    #[must_use]
    pub fn working_dir(mut self, path: &str) -> Self {
        path.clone_into(&mut self.working_dir);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// What the container runs.
    #[must_use]
    pub fn entrypoint(mut self, arguments: &[&str]) -> Self {
        self.entrypoint = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Arguments of the entrypoint, or what is run without one.
    #[must_use]
    pub fn command(mut self, arguments: &[&str]) -> Self {
        self.command = arguments.iter().map(ToString::to_string).collect();
        self
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        self.entries.insert(path.trim_matches('/').to_owned(), entry);
        self
    }

    /// The image's name, as Pods use it.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Writes the docker-archive. The same image gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        let layer = self.layer()?;
        let config = serde_json::to_vec(&self.config(&hex(&Sha256::digest(&layer))))?;
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let manifest = json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": ["layer.tar"]}]);

        let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
        let mut archive = tar::Builder::new(file);
        for (name, content) in
            [("layer.tar", &layer), (&config_name, &config), ("manifest.json", &serde_json::to_vec(&manifest)?)]
        {
            append(&mut archive, name, tar::EntryType::Regular, (0o644, 0), content)?;
        }
        archive.into_inner()?.flush()?;
        Ok(())
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for folder in self.folders_above() {
            append(&mut archive, &format!("{folder}/"), tar::EntryType::Directory, (0o755, 0), &[])?;
        }
        for (path, entry) in &self.entries {
            let owner = (entry.mode, entry.owner);
            match &entry.kind {
                Kind::Folder => append(&mut archive, &format!("{path}/"), tar::EntryType::Directory, owner, &[])?,
                Kind::File(content) => {
                    append(&mut archive, path, tar::EntryType::Regular, owner, content)?;
                }
                Kind::Link(target) => {
                    let mut header = header(tar::EntryType::Symlink, owner, 0);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(archive.into_inner()?)
    }

    /// Folders that entries need and that are no entries themselves.
    fn folders_above(&self) -> Vec<String> {
        let mut folders = Vec::new();
        for path in self.entries.keys() {
            for (end, _) in path.match_indices('/') {
                let folder = path[..end].to_owned();
                if !self.entries.contains_key(&folder) && !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        folders
    }

    fn config(&self, layer: &str) -> Value {
        let mut config = json!({"Env": self.env});
        for (key, value) in [("User", &self.user), ("WorkingDir", &self.working_dir)] {
            if !value.is_empty() {
                config[key] = json!(value);
            }
        }
        for (key, value) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.command)] {
            if !value.is_empty() {
                config[key] = json!(value);
            }
        }
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
    }
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    owner: (u32, u32),
    content: &[u8],
) -> Result<()> {
    let mut header = header(kind, owner, content.len() as u64);
    Ok(archive.append_data(&mut header, path, content)?)
}

fn header(kind: tar::EntryType, (mode, owner): (u32, u32), size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mtime(0);
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn read(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        files
    }

    #[test]
    fn manifest_config_and_layer_fit_together() {
        let image = Image::new("daypass.test/example:1")
            .file("/opt/deep/tool", 0o755, "tool")
            .folder("/work", 0o700, 1000)
            .add_user("agent", 1000)
            .user("agent")
            .working_dir("/work")
            .env("A", "b")
            .entrypoint(&["/opt/deep/tool"]);
        let path = tempfile::NamedTempFile::new().unwrap();
        image.write(path.path()).unwrap();
        let files = read(&fs::read(path.path()).unwrap());

        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["daypass.test/example:1"]));
        let config: Value = serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", hex(&Sha256::digest(layer)))]));
        assert_eq!(config["config"]["User"], "agent");
        assert_eq!(config["config"]["WorkingDir"], "/work");
        assert_eq!(config["config"]["Entrypoint"], json!(["/opt/deep/tool"]));
        assert!(config["config"]["Env"].as_array().unwrap().contains(&json!("A=b")));

        let inside = read(layer);
        let names: Vec<_> = inside.keys().map(String::as_str).collect();
        assert_eq!(names, ["etc/", "etc/group", "etc/passwd", "opt/", "opt/deep/", "opt/deep/tool", "work/"]);
        assert_eq!(inside["etc/passwd"], b"agent:x:1000:1000::/:/bin/sh\n");
    }

    #[test]
    fn owners_and_modes_are_kept() {
        let layer = Image::new("x:1").folder("/work", 0o700, 1000).link("/bin/sh", "busybox").layer().unwrap();
        let mut archive = tar::Archive::new(&layer[..]);
        let found: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap()).collect();
        let work = found.iter().find(|entry| entry.path().unwrap() == Path::new("work/")).unwrap();
        assert_eq!((work.header().mode().unwrap(), work.header().uid().unwrap()), (0o700, 1000));
        let link = found.iter().find(|entry| entry.path().unwrap() == Path::new("bin/sh")).unwrap();
        assert_eq!(link.link_name().unwrap().unwrap(), Path::new("busybox"));
    }
}
