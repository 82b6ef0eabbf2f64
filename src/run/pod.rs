//! The Pod of a run, and its Secret without the values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Run;
use super::pod_view::{INJECTED_AT, MAIN, SECRETS, Versions};
use crate::api::{API_VERSION, Delivery, RUN_SECRET_TYPE, Resources, SandboxSpec, SecurityContext, Time};

/// Label of a run's Pod: the run's name.
pub const RUN_LABEL: &str = "daypass.dev/run";
/// Label of a run's Pod: the Sandbox's name.
pub const SANDBOX_LABEL: &str = "daypass.dev/sandbox";
/// The gate before a Pod that waits for a queue: lifted once its Secret is there.
pub const GATE: &str = "daypass.dev/secret";
/// Where `delivery: File` shows the values.
const SECRET_FOLDER: &str = "/run/daypass";
/// Where the run may write: its HOME, and its working folder unless set.
const HOME: &str = "/workspace";
/// Stays up and ends well when told to. The wait makes the shell answer at once.
const KEEP_ALIVE: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"];

/// What the cluster admin sets for every run's Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodDefaults {
    /// The image of a Sandbox that names none.
    #[serde(skip)]
    pub image: String,
    /// User ID.
    pub run_as_user: i64,
    /// Group ID.
    pub run_as_group: i64,
    /// The group that owns the Pod's volumes.
    pub fs_group: i64,
}

impl Default for PodDefaults {
    fn default() -> Self {
        Self {
            image: "docker.io/library/python:3.13-slim".into(),
            run_as_user: 65_532,
            run_as_group: 65_532,
            fs_group: 65_532,
        }
    }
}

/// What a Pod is made from, besides the run.
#[derive(Debug)]
pub struct PodInput<'a> {
    /// The shape that was asked for.
    pub spec: &'a SandboxSpec,
    /// What the cluster admin has set.
    pub defaults: &'a PodDefaults,
    /// Per reference the version; none where it is absent and optional.
    pub versions: &'a [Option<String>],
    /// When the run Secret was made; none where the run names no secrets, or its Pod stands before it.
    pub injected: Option<Timestamp>,
    /// What the kind of run adds.
    pub extras: &'a PodExtras,
}

/// What a kind of run adds to its Pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodExtras {
    /// Labels that say whose it is.
    pub labels: BTreeMap<String, String>,
    /// Whether a Pod that names no program stays up until it is stopped.
    pub keep_alive: bool,
    /// Further folders that the run may write to.
    pub volumes: Vec<Volume>,
}

/// A folder that a run may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The volume's name.
    pub name: &'static str,
    /// Where the container sees it.
    pub path: &'static str,
    /// The claim that it is; none: an empty folder.
    pub claim: Option<String>,
}

impl PodExtras {
    /// What a Sandbox adds.
    pub fn of_sandbox(name: &str) -> Self {
        // A label's value is shorter than a name may be, and ends with a letter or digit.
        let cut: String = name.chars().take(63).collect();
        let label = cut.trim_end_matches(['-', '.']).to_owned();
        Self { labels: [(SANDBOX_LABEL.to_owned(), label)].into(), keep_alive: true, volumes: Vec::new() }
    }
}

/// The reference that ties an object of the run to its owner.
pub fn owner_reference(run: &Run) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.into(),
        kind: run.owner_kind.into(),
        name: run.owner_name.clone(),
        uid: run.owner_uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The run Secret, without its `data`: whoever sends it puts the values in at the last moment.
pub fn run_secret(run: &Run) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": run.name, "namespace": run.namespace, "ownerReferences": [owner_reference(run)]},
        "type": RUN_SECRET_TYPE,
        "immutable": true,
    })
}

/// The Pod of a run.
pub fn run_pod(run: &Run, input: &PodInput<'_>) -> core::Pod {
    let spec = input.spec;
    let (volumes, mounts) = volumes(run, input);
    core::Pod {
        metadata: ObjectMeta {
            name: Some(run.name.clone()),
            namespace: Some(run.namespace.clone()),
            labels: Some(labels(run, input)),
            annotations: Some(annotations(run, input)),
            owner_references: Some(vec![owner_reference(run)]),
            ..ObjectMeta::default()
        },
        spec: Some(core::PodSpec {
            containers: vec![container(run, input, mounts)],
            volumes: Some(volumes),
            restart_policy: Some("Never".into()),
            scheduling_gates: (run.gated && !run.references.is_empty())
                .then(|| vec![core::PodSchedulingGate { name: GATE.into() }]),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            service_account_name: Some(run.service_account.clone()),
            active_deadline_seconds: Some(run.lifetime.as_secs()),
            termination_grace_period_seconds: Some(run.grace.as_secs()),
            runtime_class_name: spec.runtime_class_name.clone(),
            node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
            tolerations: list(&spec.tolerations, |t| core::Toleration {
                key: t.key.clone(),
                operator: t.operator.clone(),
                value: t.value.clone(),
                effect: t.effect.clone(),
                toleration_seconds: t.toleration_seconds,
            }),
            image_pull_secrets: list(&spec.image_pull_secrets, |r| core::LocalObjectReference { name: r.name.clone() }),
            security_context: Some(pod_security(spec.security_context.as_ref(), input.defaults)),
            dns_policy: no_name_service(spec).then(|| "None".into()),
            // Without egress a lookup would wait for an answer that cannot come: refuse it at once.
            dns_config: no_name_service(spec).then(|| core::PodDNSConfig {
                nameservers: Some(vec!["127.0.0.1".into()]),
                ..core::PodDNSConfig::default()
            }),
            ..core::PodSpec::default()
        }),
        status: None,
    }
}

fn no_name_service(spec: &SandboxSpec) -> bool {
    spec.network.as_ref().is_some_and(|network| network.deny_egress && network.egress.is_empty())
}

fn labels(run: &Run, input: &PodInput<'_>) -> BTreeMap<String, String> {
    let mut labels = unreserved(input.spec.pod_metadata.as_ref().map(|metadata| &metadata.labels));
    labels.insert("app.kubernetes.io/managed-by".into(), "daypass".into());
    labels.insert(RUN_LABEL.into(), run.name.clone());
    labels.extend(input.extras.labels.clone());
    labels
}

/// What people put on the Pod, without the keys that are read back as the operator's own word.
fn unreserved(map: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let reserved = |key: &str| {
        key.split_once('/').is_some_and(|(prefix, _)| prefix == "daypass.dev" || prefix.ends_with(".daypass.dev"))
    };
    map.into_iter().flatten().filter(|(key, _)| !reserved(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn annotations(run: &Run, input: &PodInput<'_>) -> BTreeMap<String, String> {
    let mut annotations = unreserved(input.spec.pod_metadata.as_ref().map(|metadata| &metadata.annotations));
    for (index, file) in input.spec.files.iter().enumerate() {
        annotations.insert(file_annotation(index), file.content.clone());
    }
    if !run.references.is_empty() && !run.gated {
        let versions: Vec<Versions> = run
            .references
            .iter()
            .zip(input.versions)
            .map(|(reference, version)| Versions {
                team: reference.team(&run.namespace).to_owned(),
                name: reference.name.clone(),
                store: reference.store().to_owned(),
                env_var: reference.variable().to_owned(),
                version: version.clone(),
            })
            .collect();
        // A list of plain strings always serializes.
        annotations.insert(SECRETS.into(), serde_json::to_string(&versions).unwrap_or_default());
    }
    if let Some(injected) = input.injected {
        annotations.insert(INJECTED_AT.into(), Time(injected).to_string());
    }
    annotations
}

fn container(run: &Run, input: &PodInput<'_>, volume_mounts: Vec<core::VolumeMount>) -> core::Container {
    let spec = input.spec;
    let keep_alive = input.extras.keep_alive && spec.command.is_empty() && spec.args.is_empty();
    core::Container {
        name: MAIN.into(),
        image: Some(spec.image.clone().unwrap_or_else(|| input.defaults.image.clone())),
        command: if keep_alive {
            Some(KEEP_ALIVE.map(str::to_owned).into())
        } else {
            list(&spec.command, Clone::clone)
        },
        args: list(&spec.args, Clone::clone),
        working_dir: Some(spec.working_dir.clone().unwrap_or_else(|| HOME.into())),
        env: Some(env(run, input)),
        resources: spec.resources.as_ref().map(resources),
        security_context: Some(container_security(spec.security_context.as_ref())),
        volume_mounts: Some(volume_mounts),
        termination_message_policy: Some("File".into()),
        ..core::Container::default()
    }
}

fn env(run: &Run, input: &PodInput<'_>) -> Vec<core::EnvVar> {
    let literal = |name: &str, value: &str| core::EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..core::EnvVar::default()
    };
    let mut env = Vec::new();
    if !input.spec.env.iter().any(|variable| variable.name == "HOME") {
        env.push(literal("HOME", HOME));
    }
    if run.delivery == Delivery::Env {
        for (index, reference) in run.references.iter().enumerate() {
            // Behind a gate the versions are not known yet: the Secret will hold what is not optional.
            let absent = if run.gated { false } else { input.versions.get(index).is_none_or(Option::is_none) };
            if absent {
                continue;
            }
            env.push(core::EnvVar {
                name: reference.variable().into(),
                value_from: Some(core::EnvVarSource {
                    secret_key_ref: Some(core::SecretKeySelector {
                        name: run.name.clone(),
                        key: reference.variable().into(),
                        optional: Some(run.gated && reference.optional),
                    }),
                    ..core::EnvVarSource::default()
                }),
                ..core::EnvVar::default()
            });
        }
    }
    // Plain variables come last, so that `$(NAME)` in one may name those before it, as in any Pod.
    env.extend(input.spec.env.iter().map(|variable| literal(&variable.name, &variable.value)));
    env
}

fn volumes(run: &Run, input: &PodInput<'_>) -> (Vec<core::Volume>, Vec<core::VolumeMount>) {
    let volume = |name: &str| core::Volume { name: name.into(), ..core::Volume::default() };
    let mount = |name: &str, path: &str| core::VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        ..core::VolumeMount::default()
    };
    let mut volumes =
        vec![core::Volume { empty_dir: Some(core::EmptyDirVolumeSource::default()), ..volume("workspace") }];
    let mut mounts = vec![mount("workspace", HOME)];
    for extra in &input.extras.volumes {
        volumes.push(match &extra.claim {
            None => core::Volume { empty_dir: Some(core::EmptyDirVolumeSource::default()), ..volume(extra.name) },
            Some(claim) => core::Volume {
                persistent_volume_claim: Some(core::PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    read_only: None,
                }),
                ..volume(extra.name)
            },
        });
        mounts.push(mount(extra.name, extra.path));
    }
    if run.delivery == Delivery::File && !run.references.is_empty() {
        volumes.push(core::Volume {
            secret: Some(core::SecretVolumeSource {
                secret_name: Some(run.name.clone()),
                default_mode: Some(0o440),
                // With `true` the kubelet would empty the folder when the Secret goes.
                optional: Some(false),
                items: None,
            }),
            ..volume("secrets")
        });
        mounts.push(core::VolumeMount { read_only: Some(true), ..mount("secrets", SECRET_FOLDER) });
    }
    if !input.spec.files.is_empty() {
        let items = input.spec.files.iter().enumerate().map(|(index, file)| core::DownwardAPIVolumeFile {
            path: index.to_string(),
            mode: Some(file.mode.unwrap_or(0o444)),
            field_ref: Some(core::ObjectFieldSelector {
                field_path: format!("metadata.annotations['{}']", file_annotation(index)),
                api_version: None,
            }),
            resource_field_ref: None,
        });
        volumes.push(core::Volume {
            downward_api: Some(core::DownwardAPIVolumeSource { items: Some(items.collect()), default_mode: None }),
            ..volume("files")
        });
        mounts.extend(input.spec.files.iter().enumerate().map(|(index, file)| core::VolumeMount {
            sub_path: Some(index.to_string()),
            read_only: Some(true),
            ..mount("files", &file.path)
        }));
    }
    (volumes, mounts)
}

fn file_annotation(index: usize) -> String {
    format!("daypass.dev/file-{index}")
}

fn resources(resources: &Resources) -> core::ResourceRequirements {
    let map = |amounts: &BTreeMap<String, crate::api::Quantity>| {
        (!amounts.is_empty())
            .then(|| amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.0.clone()))).collect())
    };
    core::ResourceRequirements { requests: map(&resources.requests), limits: map(&resources.limits), claims: None }
}

fn pod_security(context: Option<&SecurityContext>, defaults: &PodDefaults) -> core::PodSecurityContext {
    let context = context.cloned().unwrap_or_default();
    let user = context.run_as_user.unwrap_or(defaults.run_as_user);
    let profile = context.seccomp_profile;
    core::PodSecurityContext {
        run_as_user: Some(user),
        run_as_group: Some(context.run_as_group.unwrap_or(defaults.run_as_group)),
        run_as_non_root: Some(context.run_as_non_root.unwrap_or(user != 0)),
        fs_group: Some(context.fs_group.unwrap_or(defaults.fs_group)),
        supplemental_groups: list(&context.supplemental_groups, |group| *group),
        seccomp_profile: Some(core::SeccompProfile {
            type_: profile.as_ref().map_or_else(|| "RuntimeDefault".into(), |profile| profile.type_.clone()),
            localhost_profile: profile.and_then(|profile| profile.localhost_profile),
        }),
        ..core::PodSecurityContext::default()
    }
}

fn container_security(context: Option<&SecurityContext>) -> core::SecurityContext {
    let context = context.cloned().unwrap_or_default();
    core::SecurityContext {
        allow_privilege_escalation: Some(context.allow_privilege_escalation.unwrap_or(false)),
        read_only_root_filesystem: context.read_only_root_filesystem,
        capabilities: Some(core::Capabilities {
            drop: Some(context.capabilities.map_or_else(|| vec!["ALL".into()], |capabilities| capabilities.drop)),
            add: None,
        }),
        ..core::SecurityContext::default()
    }
}

fn list<T, U>(items: &[T], convert: impl Fn(&T) -> U) -> Option<Vec<U>> {
    (!items.is_empty()).then(|| items.iter().map(convert).collect())
}
