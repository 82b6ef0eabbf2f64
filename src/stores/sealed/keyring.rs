//! The private keys that are live, and the folder they are read from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::key::{KEY_BYTES, KeyError, KeyId, PrivateKey, PublicKey};

/// Private keys by their IDs. All of them open, the newest seals. Cheap to clone.
#[derive(Clone, Default)]
pub struct KeyRing(BTreeMap<KeyId, Arc<PrivateKey>>);

impl KeyRing {
    /// Puts a key under the name that proves it.
    pub fn insert(&mut self, id: KeyId, key: Arc<PrivateKey>) -> Result<(), KeyError> {
        if !id.names(&key.public()) {
            return Err(KeyError::WrongId);
        }
        self.0.insert(id, key);
        Ok(())
    }

    /// The key that a sealed value names, if it is live.
    pub fn get(&self, id: &str) -> Option<&PrivateKey> {
        self.0.get(&id.parse().ok()?).map(Arc::as_ref)
    }

    /// What may be known of the keys.
    pub fn public(&self) -> BTreeMap<KeyId, PublicKey> {
        self.0.iter().map(|(id, key)| (id.clone(), key.public())).collect()
    }

    /// The keys by their IDs, the newest last.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyId, &PrivateKey)> {
        self.0.iter().map(|(id, key)| (id, key.as_ref()))
    }

    /// The IDs, the newest last.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.0.keys()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a folder of key files gave.
#[derive(Default)]
pub struct Loaded {
    /// The keys of all files that hold what their name says.
    pub keys: KeyRing,
    /// The files that do not, by name.
    pub bad: Vec<BadFile>,
}

/// A file in the folder of keys that is none. Holds nothing of its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    /// The file's name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// Reads every key file of `folder`: the ID is the name, the contents are the 32 raw bytes. Names that begin with a dot
/// are left out, because a kubelet keeps a volume's true files behind such links. A file that is no key is reported and
/// does not spoil the others; a folder that is not there holds none.
///
/// # Errors
/// Where the folder is there and cannot be listed.
pub fn load_folder(folder: &Path) -> io::Result<Loaded> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(error),
    };
    let mut loaded = Loaded::default();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if let Err(why) = load_file(&entry.path(), &name, &mut loaded.keys) {
            loaded.bad.push(BadFile { name, why });
        }
    }
    loaded.bad.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(loaded)
}

fn load_file(path: &Path, name: &str, keys: &mut KeyRing) -> Result<(), String> {
    let id: KeyId = name.parse().map_err(|error: KeyError| error.to_string())?;
    // One byte more than a key has, so that a longer file is told from a key.
    let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
    let length = read_up_to(path, bytes.as_mut_slice()).map_err(|error| error.kind().to_string())?;
    PrivateKey::from_bytes(&bytes[..length])
        .and_then(|key| keys.insert(id, Arc::new(key)))
        .map_err(|error| error.to_string())
}

fn read_up_to(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn key(second: i64) -> (KeyId, PrivateKey) {
        let private = PrivateKey::generate();
        (KeyId::new(jiff::Timestamp::from_second(second).unwrap(), &private.public()), private)
    }

    /// Lays the files out as a kubelet does: a dated folder, `..data` to it, and a link for each key.
    fn volume(folder: &Path, files: &[(&str, &[u8])]) {
        fs::create_dir(folder.join("..2026_01_02")).unwrap();
        symlink("..2026_01_02", folder.join("..data")).unwrap();
        for (name, contents) in files {
            fs::write(folder.join("..data").join(name), contents).unwrap();
            symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
    }

    #[test]
    fn a_secret_volume_gives_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let ((old, old_key), (new, new_key)) = (key(1_000), key(2_000));
        volume(
            folder.path(),
            &[(new.as_str(), new_key.to_secret().expose()), (old.as_str(), old_key.to_secret().expose())],
        );
        let loaded = load_folder(folder.path()).unwrap();
        assert_eq!(loaded.bad, []);
        assert_eq!(loaded.keys.ids().collect::<Vec<_>>(), [&old, &new]);
        assert_eq!(loaded.keys.get(old.as_str()).unwrap().public(), old_key.public());
        assert!(loaded.keys.get(key(3_000).0.as_str()).is_none());
    }

    #[test]
    fn bad_files_are_named_and_do_not_spoil_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let ((good, good_key), (other, other_key)) = (key(1_000), key(2_000));
        let (short, long) = ("20260101000000-aaaaaaaaaaaa", "20260101000000-bbbbbbbbbbbb");
        volume(
            folder.path(),
            &[
                (good.as_str(), good_key.to_secret().expose()),
                // The bytes of another key under this name.
                (other.as_str(), good_key.to_secret().expose()),
                (short, b"canary-short"),
                (long, &[b'c'; 40]),
                ("notes.txt", b"canary-notes"),
            ],
        );
        fs::create_dir(folder.path().join("20260101000000-cccccccccccc")).unwrap();
        drop(other_key);
        let loaded = load_folder(folder.path()).unwrap();
        assert_eq!(loaded.keys.ids().collect::<Vec<_>>(), [&good]);
        let why = |name: &str| &loaded.bad.iter().find(|bad| bad.name == name).unwrap().why;
        assert_eq!(loaded.bad.len(), 5);
        assert_eq!(why(other.as_str()), &KeyError::WrongId.to_string());
        assert_eq!(why(short), &KeyError::BadLength.to_string());
        assert_eq!(why(long), &KeyError::BadLength.to_string());
        assert_eq!(why("notes.txt"), &KeyError::BadId.to_string());
        assert!(!format!("{:?}", loaded.bad).contains("canary"));
    }

    #[test]
    fn a_folder_that_is_not_there_or_empty_holds_no_key() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load_folder(folder.path()).unwrap().keys.is_empty());
        assert!(load_folder(&folder.path().join("absent")).unwrap().keys.is_empty());
    }
}
