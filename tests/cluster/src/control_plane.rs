//! The flags of etcd, API server, controller manager and scheduler.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cluster::Options;
use crate::state;
use crate::supervisor::Part;
use crate::tools::Tools;

/// The service address of the API server: the first of the service range.
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// Ports on 127.0.0.1 that were free a moment ago.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
    pub(crate) kubelet: u16,
}

impl Ports {
    pub(crate) fn free() -> Result<Self> {
        // All are held until all are chosen, so that no two are the same.
        let held = [(); 4].map(|()| TcpListener::bind(("127.0.0.1", 0)));
        let mut ports = [0; 4];
        for (port, listener) in ports.iter_mut().zip(held) {
            *port = listener?.local_addr()?.port();
        }
        let [etcd, etcd_peer, apiserver, kubelet] = ports;
        Ok(Self { etcd, etcd_peer, apiserver, kubelet })
    }
}

/// Names and places that the flags are made of.
pub(crate) struct ControlPlane<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) state: &'a Path,
    pub(crate) ports: Ports,
    pub(crate) options: &'a Options,
}

impl ControlPlane<'_> {
    /// Writes tokens, kubeconfigs and the audit policy. Returns the admin's token.
    pub(crate) fn write_files(&self) -> Result<String> {
        let admin = state::random_token()?;
        let mut tokens = vec![format!("{admin},admin,admin,system:masters")];
        for (file, user, groups) in [
            ("controller-manager", "system:kube-controller-manager", ""),
            ("scheduler", "system:kube-scheduler", ""),
            ("kubelet", "system:node:127.0.0.1", "system:nodes"),
        ] {
            let token = state::random_token()?;
            tokens.push(format!("{token},{user},{user},{groups}"));
            state::write_private(&self.kubeconfig(file), self.kubeconfig_text(&token))?;
        }
        state::write_private(&self.state.join("tokens.csv"), tokens.join("\n"))?;
        state::write_private(&self.kubeconfig("admin"), self.kubeconfig_text(&admin))?;
        // Who asked for what and with which outcome. Metadata leaves all bodies out, so no value gets in.
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        });
        state::write_private(&self.state.join("audit-policy.yaml"), policy.to_string())?;
        Ok(admin)
    }

    fn kubeconfig(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.kubeconfig"))
    }

    fn kubeconfig_text(&self, token: &str) -> String {
        crate::access::kubeconfig(&self.server(), &self.state.join("pki/ca.crt"), token)
    }

    pub(crate) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.apiserver)
    }

    pub(crate) fn etcd(&self) -> Part {
        let clients = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peers = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        let mut flags = vec![
            "--name=default".to_owned(),
            format!("--data-dir={}", self.path("etcd")),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            "--log-level=warn".to_owned(),
        ];
        if !self.options.durable {
            flags.push("--unsafe-no-fsync".to_owned());
        }
        self.part("etcd", flags)
    }

    pub(crate) fn apiserver(&self) -> Part {
        let pki = self.path("pki");
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.apiserver),
            // Nobody reaches it by an endpoint: Pods go through the node's rule.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={pki}"),
            format!("--tls-cert-file={pki}/apiserver.crt"),
            format!("--tls-private-key-file={pki}/apiserver.key"),
            format!("--token-auth-file={}", self.path("tokens.csv")),
            format!("--service-account-key-file={pki}/sa.pub"),
            format!("--service-account-signing-key-file={pki}/sa.key"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged".to_owned(),
            "--profiling=false".to_owned(),
            format!("--kubelet-certificate-authority={pki}/ca.crt"),
            format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
            format!("--kubelet-client-key={pki}/kubelet-client.key"),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--audit-policy-file={}", self.path("audit-policy.yaml")),
            format!("--audit-log-path={}", self.path("audit.log")),
            // In megabytes. A log that is rotated away in the middle of a test cannot be counted.
            "--audit-log-maxsize=100000".to_owned(),
        ];
        flags.extend(self.options.apiserver_flags.iter().cloned());
        self.part("kube-apiserver", flags)
    }

    pub(crate) fn controller_manager(&self) -> Part {
        let mut flags = vec![
            format!("--kubeconfig={}", self.path("controller-manager.kubeconfig")),
            "--use-service-account-credentials".to_owned(),
            format!("--service-account-private-key-file={}", self.path("pki/sa.key")),
            format!("--root-ca-file={}", self.path("pki/ca.crt")),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--profiling=false".to_owned(),
        ];
        flags.extend(self.options.controller_manager_flags.iter().cloned());
        self.part("kube-controller-manager", flags)
    }

    pub(crate) fn scheduler(&self) -> Part {
        self.part(
            "kube-scheduler",
            vec![
                format!("--kubeconfig={}", self.path("scheduler.kubeconfig")),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
                "--profiling=false".to_owned(),
            ],
        )
    }

    fn part(&self, name: &str, flags: Vec<String>) -> Part {
        let program = [self.tools.kubernetes.display().to_string(), name.to_owned()];
        Part { name: name.to_owned(), argv: program.into_iter().chain(flags).collect(), env: Vec::new() }
    }

    fn path(&self, name: &str) -> String {
        self.state.join(name).display().to_string()
    }
}
