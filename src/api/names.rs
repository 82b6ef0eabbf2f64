//! Names that are derived, never read from anywhere.

use sha2::{Digest, Sha256};

/// The store that a reference means when it names none.
pub const DEFAULT_STORE: &str = "default";
/// What the names of a run's Secret and Pod begin with. Reserved by admission policy.
pub const RUN_PREFIX: &str = "daypass-run-";

/// Variables that steer a loader, a shell or an interpreter, as a regular expression over the whole name.
pub const LOADER_VARIABLES: &str = "PATH|IFS|ENV|SHELLOPTS|BASHOPTS|BASH_.*|PS4|PROMPT_COMMAND|CDPATH|HOME|LD_.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|MALLOC_.*|PYTHON.*|NODE_OPTIONS|NODE_PATH|PERL5.*|PERLLIB|RUBYOPT|RUBYLIB|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|_JAVA_OPTIONS|CLASSPATH|LUA_.*|R_HOME|R_PROFILE.*|GIT_.*|SSL_CERT_.*|KUBERNETES_.*";

/// Variables that are an evaluation runner's own, as a regular expression over the whole name: where keys and tokens go,
/// what the models are, where files lie.
pub const RUNNER_VARIABLES: &str = "DAYPASS_.*|INSPECT_.*|TARGET_.*|JUDGE[0-9]*_.*|.*_BASE_URL|.*_API_BASE|OPENAI_.*_ENDPOINT|HF_(HOME|ENDPOINT|HUB_.*|XET_.*|DATASETS_.*|ASSETS_CACHE|TOKEN_PATH)|HUGGINGFACE_HUB_.*|XDG_.*|TMPDIR|WANDB_(MODE|DIR|CONFIG_DIR|CACHE_DIR|DATA_DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(HTTPS?|ALL|NO|FTP)_PROXY|(https?|all|no|ftp)_proxy";

/// What grants, policies and access reviews call a secret: `NAME` in the store `default`, else `STORE.NAME`.
pub fn access_name(store: &str, name: &str) -> String {
    if store == DEFAULT_STORE { name.to_owned() } else { format!("{store}.{name}") }
}

/// The name of the `TeamSecret` object that holds the secret `name`: lower case, `-` for `_`.
pub fn team_secret_object(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The name of a run's Secret and Pod: `daypass-run-<object, cut to 24>-<attempt>-<10 letters of a hash>`, at most 63
/// characters. The hash is over the object's UID, the benchmark (empty for a Sandbox) and the attempt.
pub fn run_name(object: &str, uid: &str, benchmark: &str, attempt: u32) -> String {
    // Consonants and digits, so that no word comes out; 10 letters of 5 bits are 50 bits.
    const ALPHABET: &[u8; 32] = b"bcdfghjklmnpqrstvwxz0123456789ae";
    let mut hash = Sha256::new();
    for part in [uid, benchmark, &attempt.to_string()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let suffix: String =
        hash.finalize().iter().take(10).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    let cut: String = object.replace('.', "-").chars().take(24).collect();
    format!("{RUN_PREFIX}{}-{attempt}-{suffix}", cut.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_name_is_valid_bounded_and_its_own() {
        let long = run_name(&"a.".repeat(100), "5b1c", "", 1000);
        assert!(long.len() <= 63, "{long}");
        assert!(long.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{long}");
        let base = run_name("demo", "uid-1", "", 1);
        assert!(base.starts_with("daypass-run-demo-1-"));
        for other in
            [run_name("demo", "uid-2", "", 1), run_name("demo", "uid-1", "b", 1), run_name("demo", "uid-1", "", 2)]
        {
            assert_ne!(base, other);
        }
        assert_eq!(base, run_name("demo", "uid-1", "", 1));
    }

    #[test]
    fn access_names_tell_stores_apart() {
        assert_eq!(access_name("default", "HF_TOKEN"), "HF_TOKEN");
        assert_eq!(access_name("vault", "HF_TOKEN"), "vault.HF_TOKEN");
        assert_eq!(team_secret_object("HF_TOKEN"), "hf-token");
    }
}
