//! From what benchmarks need to the secrets that they get. Every problem of every benchmark at once, each with its mend.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, Entry, Need, NeedReason, SelfGradingBy};
use crate::api::{Auth, Benchmark, BoundBy, EvalJobSpec, Framework, Grader, Reason, SecretReference};

/// The alias of the evaluated model in a runner: `TARGET_API_KEY`, `TARGET_BASE_URL`.
pub(super) const TARGET: &str = "target";
/// What the framework's names of models behind an alias begin with.
pub(super) const ALIASED: &str = "openai-api/";
/// How many keys a run Secret has at most: a rule of the operator's own box.
const MOST_KEYS: usize = 24;
/// The variable with the key for `results.wandb`.
pub const WANDB_KEY: &str = "WANDB_API_KEY";
/// What a framework's model names begin with, and the key that such a model asks for.
const PROVIDERS: [(&str, &str); 8] = [
    ("openai/", "OPENAI_API_KEY"),
    ("anthropic/", "ANTHROPIC_API_KEY"),
    ("google/", "GOOGLE_API_KEY"),
    ("openrouter/", "OPENROUTER_API_KEY"),
    ("mistral/", "MISTRAL_API_KEY"),
    ("groq/", "GROQ_API_KEY"),
    ("together/", "TOGETHER_API_KEY"),
    ("grok/", "XAI_API_KEY"),
];

/// Something that stands in the way of benchmarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The benchmarks that it keeps from starting; none where it is about the whole job.
    pub benchmarks: Vec<String>,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for people: the benchmark, what it lacks, and the field or the command that mends it.
    pub message: String,
}

/// One secret that a benchmark gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The secret and its variable.
    pub reference: SecretReference,
    /// How the benchmark came to it.
    pub by: BoundBy,
    /// What it is for.
    pub purpose: String,
}

/// What one benchmark gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The benchmark's name.
    pub benchmark: String,
    /// The task's full name.
    pub task: String,
    /// Its secrets, each with a variable of its own.
    pub secrets: Vec<Bound>,
    /// Judges by model role, as the framework names models.
    pub roles: BTreeMap<String, String>,
    /// Judges by argument of the task.
    pub judge_args: BTreeMap<String, String>,
    /// Variables that say where models are.
    pub addresses: BTreeMap<String, String>,
}

/// What all benchmarks get, and what stands in the way. Where nothing does, every benchmark has a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// In the order of `spec.benchmarks`: as much as could be bound.
    pub benchmarks: Vec<Binding>,
    /// Everything that stands in the way.
    pub problems: Vec<Problem>,
}

/// Binds every benchmark.
pub fn bind_each(spec: &EvalJobSpec, catalog: &Catalog) -> Bindings {
    let mut bindings = Bindings::default();
    let mut taken = Taken::default();
    for (index, benchmark) in spec.benchmarks.iter().enumerate() {
        let mut binder = Binder {
            spec,
            benchmark,
            index,
            entry: None,
            problems: Vec::new(),
            taken: &mut taken,
            binding: Binding {
                benchmark: benchmark.effective_name().to_owned(),
                task: benchmark.task.clone(),
                ..Binding::default()
            },
        };
        binder.bind(catalog);
        bindings.problems.append(&mut binder.problems);
        bindings.benchmarks.push(binder.binding);
    }
    unneeded(spec, &taken, &mut bindings.problems);
    let named: BTreeSet<_> = spec.references().map(|named| (named.team.clone(), named.access_name())).collect();
    if named.len() > MOST_KEYS {
        // The submitter's policy asks for each by its name, and has so many rules.
        bindings.problems.push(Problem {
            benchmarks: Vec::new(),
            reason: Reason::InvalidSpec,
            message: format!("the job names {} different team secrets, and {MOST_KEYS} at most: split it", named.len()),
        });
    }
    bindings
}

/// What of the job's offers was taken.
#[derive(Default)]
struct Taken {
    secrets: BTreeSet<String>,
    graders: BTreeSet<String>,
}

/// An offer that nobody takes was meant to have an effect: it is refused, not ignored.
fn unneeded(spec: &EvalJobSpec, taken: &Taken, problems: &mut Vec<Problem>) {
    for (index, secret) in spec.secrets.iter().enumerate() {
        let variable = secret.variable();
        if !taken.secrets.contains(variable) {
            problems.push(Problem {
                benchmarks: Vec::new(),
                reason: Reason::NotNeeded,
                message: format!(
                    "secrets[{index}]: no benchmark needs {variable}; take it out, or move it to benchmarks[].secrets of the one that shall have it"
                ),
            });
        }
    }
    for (index, grader) in spec.graders.iter().enumerate() {
        if !taken.graders.contains(&grader.role) {
            let mend = match spec.framework() {
                Framework::LMEval => "LMEval knows no judges",
                _ => "or correct its role (`daypass eval benchmarks` shows the judges of each)",
            };
            problems.push(Problem {
                benchmarks: Vec::new(),
                reason: Reason::NotNeeded,
                message: format!(
                    "graders[{index}]: no benchmark asks for a judge {}; take it out, {mend}",
                    grader.role
                ),
            });
        }
    }
}

struct Binder<'a> {
    spec: &'a EvalJobSpec,
    benchmark: &'a Benchmark,
    index: usize,
    entry: Option<&'a Entry>,
    binding: Binding,
    problems: Vec<Problem>,
    taken: &'a mut Taken,
}

impl<'a> Binder<'a> {
    fn bind(&mut self, catalog: &'a Catalog) {
        self.find_task(catalog);
        self.model();
        for secret in &self.benchmark.secrets {
            self.put(secret.clone(), BoundBy::Benchmark, "named at the benchmark");
        }
        match self.entry {
            Some(entry) => {
                self.arguments(entry);
                self.judges(entry);
                self.self_grading(entry);
                self.data_sets(entry);
            }
            None if self.spec.framework() == Framework::LMEval => self.harness(),
            None => self.all_graders(),
        }
        self.wandb();
        if self.binding.secrets.len() > MOST_KEYS {
            let count = self.binding.secrets.len();
            self.problem(
                Reason::InvalidSpec,
                format!("it needs {count} secrets, and a run has {MOST_KEYS} at most; take some out of its secrets"),
            );
        }
    }

    fn problem(&mut self, reason: Reason, message: impl std::fmt::Display) {
        let name = self.binding.benchmark.clone();
        self.problems.push(Problem {
            message: format!("benchmarks[{}] ({name}): {message}", self.index),
            benchmarks: vec![name],
            reason,
        });
    }

    /// The catalog is Inspect's. What it does not know needs nothing, and must be named in full.
    fn find_task(&mut self, catalog: &'a Catalog) {
        if self.spec.framework() != Framework::Inspect {
            return;
        }
        let task = &self.benchmark.task;
        match catalog.find(task) {
            None if task.contains('/') => {}
            None => {
                let similar = catalog.similar(task);
                let mend = if similar.is_empty() {
                    "`daypass eval benchmarks` lists all, and a task of another package is named in full, PACKAGE/TASK"
                        .to_owned()
                } else {
                    format!("is it {}? A task of another package is named in full, PACKAGE/TASK", similar.join(" or "))
                };
                self.problem(Reason::UnknownTask, format!("the catalog has no {task}; {mend}"));
            }
            Some(entry) if !entry.exists => {
                let mend = entry.replaced_by.as_ref().map_or_else(
                    || "`daypass eval benchmarks` lists those that there are".to_owned(),
                    |other| format!("task: {other} has taken its place"),
                );
                self.problem(Reason::UnknownTask, format!("the framework has no {task} any more; {mend}"));
            }
            Some(entry) => {
                self.binding.task.clone_from(&entry.task);
                if !entry.runs_anywhere() && !self.has_own_image() {
                    self.problem(
                        Reason::RunnerUnsuitable,
                        format!(
                            "{} needs what the usual runner's image does not have ({}); set runner.image to one that has",
                            entry.name, entry.runner
                        ),
                    );
                }
                self.entry = Some(entry);
            }
        }
    }

    fn has_own_image(&self) -> bool {
        self.spec.runner.as_ref().is_some_and(|runner| runner.image.is_some())
    }

    fn model(&mut self) {
        let model = &self.spec.model;
        self.binding.addresses.insert(address(TARGET), model.base_url.clone());
        if let (Auth::Secret, Some(key)) = (model.auth, &model.api_key) {
            self.put(key.for_variable(&key_of(TARGET)), BoundBy::Model, "the evaluated model's key");
        }
    }

    fn arguments(&mut self, entry: &Entry) {
        let Some(known) = &entry.arguments else { return };
        if self.has_own_image() {
            // Its package may be a newer one: the runner says what it does not take.
            return;
        }
        for argument in self.benchmark.args.keys().filter(|argument| !known.contains(argument)) {
            let mend = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            let name = self.binding.benchmark.clone();
            self.problems.push(Problem {
                message: format!(
                    "benchmarks[{}].args.{argument} ({name}): {} has no such argument; {mend}",
                    self.index, entry.name
                ),
                benchmarks: vec![name],
                reason: Reason::UnknownArgument,
            });
        }
    }

    /// A judge of the job's takes the place of the task's own, and with it the need for that one's key.
    fn judges(&mut self, entry: &Entry) {
        for need in entry.env.iter().filter(|need| need.reason == NeedReason::Judge) {
            let mut open = Vec::new();
            if let Some(instead) = &need.instead {
                for name in instead.names() {
                    if !self.judge(name, instead.is_argument()) {
                        open.push(name.as_str());
                    }
                }
                if open.is_empty() {
                    continue;
                }
            }
            let judge = need.model.as_deref().unwrap_or("a model of its own");
            let mend = open.first().map(|name| format!(", or graders[] with role: {name} for another judge"));
            self.need(need, &format!("the key of its judge {judge}"), mend.as_deref().unwrap_or_default());
        }
    }

    /// Gives a role or an argument its judge. False where the job names none.
    fn judge(&mut self, name: &str, argument: bool) -> bool {
        if self.binding.roles.contains_key(name) || self.binding.judge_args.contains_key(name) {
            return true;
        }
        let grader = self.grader(name);
        if argument && let Some(model) = self.benchmark.args.get(name) {
            if let Some((_, grader)) = grader.filter(|(_, grader)| grader.role == name) {
                let role = grader.role.clone();
                self.taken.graders.insert(role.clone());
                self.problem(
                    Reason::InvalidSpec,
                    format!("args.{name} and graders[] with role {role} both name its judge; take one out"),
                );
                return true;
            }
            self.named_judge(name, model);
            return true;
        }
        let Some((index, grader)) = grader else { return false };
        self.bind_grader(index, grader, name, argument);
        true
    }

    /// The judge that an argument names by itself.
    fn named_judge(&mut self, argument: &str, model: &str) {
        // An empty one, or JSON's null, would be the task's default.
        if matches!(model.trim(), "" | "null" | "\"\"") {
            let mend = "name the judge's model, or take the argument out";
            self.problem(Reason::InvalidSpec, format!("args.{argument} names no judge; {mend}"));
        } else if model.trim_matches('"').starts_with(&format!("{ALIASED}{TARGET}/")) {
            if !self.spec.allow_self_grading {
                let mend = "name another, or set allowSelfGrading: true";
                self.problem(Reason::SelfGrading, format!("args.{argument} is the evaluated model itself; {mend}"));
            }
        } else if model.trim_matches('"').starts_with(ALIASED) {
            let mend = format!("add graders[] with role: {argument} instead, which says where it is and has its key");
            self.problem(Reason::InvalidSpec, format!("args.{argument} names a judge that has no address; {mend}"));
        } else if let Some((_, key)) = PROVIDERS.iter().find(|(prefix, _)| model.starts_with(prefix)) {
            self.variable(key, &format!("the key of its judge {model}"), "");
        }
    }

    /// The job's judge for a role: the one that is named so, else the one for all.
    fn grader(&self, role: &str) -> Option<(usize, &'a Grader)> {
        let named = |wanted: &str| self.spec.graders.iter().enumerate().find(|(_, grader)| grader.role == wanted);
        named(role).or_else(|| named(Grader::ANY))
    }

    fn bind_grader(&mut self, index: usize, grader: &Grader, name: &str, argument: bool) {
        self.taken.graders.insert(grader.role.clone());
        let model = &self.spec.model;
        let same_place = grader.base_url.trim_end_matches('/') == model.base_url.trim_end_matches('/');
        if grader.model == model.name && same_place && !self.spec.allow_self_grading {
            self.problem(
                Reason::SelfGrading,
                format!("graders[{index}] is the evaluated model itself; name another, or set allowSelfGrading: true"),
            );
        }
        // Each judge has an alias of its own: no key and no address is shared with the evaluated model or another judge.
        let alias = if index == 0 { "judge".to_owned() } else { format!("judge{}", index + 1) };
        let full = format!("{ALIASED}{alias}/{}", grader.model);
        if argument {
            self.binding.judge_args.insert(name.to_owned(), full);
        } else {
            self.binding.roles.insert(name.to_owned(), full);
        }
        if self.binding.addresses.insert(address(&alias), grader.base_url.clone()).is_none()
            && let (Auth::Secret, Some(key)) = (grader.auth, &grader.api_key)
        {
            let purpose = format!("the key of the judge {}", grader.role);
            self.put(key.for_variable(&key_of(&alias)), BoundBy::Grader, &purpose);
        }
    }

    /// A task that the catalog does not know gets every judge under its role.
    fn all_graders(&mut self) {
        let spec = self.spec;
        if spec.framework() == Framework::Inspect && !self.benchmark.task.contains('/') {
            // Refused already: what it would have taken is not known.
            self.taken.graders.extend(spec.graders.iter().map(|grader| grader.role.clone()));
            self.taken.secrets.extend(spec.secrets.iter().map(|secret| secret.variable().to_owned()));
            return;
        }
        for (index, grader) in spec.graders.iter().enumerate() {
            self.bind_grader(index, grader, &grader.role, false);
        }
    }

    /// The harness asks one model, once for each sample. Its judges would get no key, so none is taken.
    fn harness(&mut self) {
        if self.benchmark.epochs.is_some_and(|epochs| epochs > 1) {
            self.problem(Reason::InvalidSpec, "LMEval knows no epochs; take them out");
        }
    }

    fn self_grading(&mut self, entry: &Entry) {
        let Some(grading) = &entry.self_grading else { return };
        let name = grading.name.as_deref().unwrap_or(Grader::ANY);
        let bound = match grading.by {
            SelfGradingBy::Role => self.judge(name, false),
            SelfGradingBy::Arg => self.judge(name, true),
            SelfGradingBy::Always => false,
        };
        if bound || self.spec.allow_self_grading {
            return;
        }
        let mend = match grading.by {
            SelfGradingBy::Always => "it knows no other judge: take it out, or set allowSelfGrading: true".to_owned(),
            _ => format!("add graders[] with role: {name}, or set allowSelfGrading: true"),
        };
        self.problem(Reason::SelfGrading, format!("the evaluated model would judge itself; {mend}"));
    }

    fn data_sets(&mut self, entry: &Entry) {
        for need in entry.env.iter().filter(|need| need.reason == NeedReason::GatedDataset) {
            let set = need.dataset.as_deref().unwrap_or_default();
            let purpose = format!("the gated data set {set} (ask for access at https://huggingface.co/datasets/{set})");
            self.need(need, &purpose, "");
        }
    }

    fn wandb(&mut self) {
        let Some(wandb) = self.spec.results.as_ref().and_then(|results| results.wandb.as_ref()) else { return };
        match &wandb.api_key {
            Some(key) => self.put(key.for_variable(WANDB_KEY), BoundBy::Results, "the key for results.wandb"),
            None => self.variable(WANDB_KEY, "the key for results.wandb", ", or results.wandb.apiKey"),
        }
    }

    fn need(&mut self, need: &Need, purpose: &str, mend: &str) {
        self.variable(&need.name, purpose, mend);
        let Some(bound) = self.bound(&need.name).cloned() else { return };
        for alias in need.aliases.iter().filter(|alias| self.bound(alias).is_none()).cloned().collect::<Vec<_>>() {
            let reference = SecretReference { env_var: Some(alias), ..bound.reference.clone() };
            self.binding.secrets.push(Bound { reference, ..bound.clone() });
        }
    }

    /// Finds the secret for a needed variable.
    fn variable(&mut self, variable: &str, purpose: &str, or: &str) {
        let offer = self.spec.secrets.iter().find(|secret| secret.variable() == variable);
        if let Some(bound) = self.binding.secrets.iter_mut().find(|bound| bound.reference.variable() == variable) {
            if bound.by == BoundBy::Benchmark && bound.purpose == "named at the benchmark" {
                purpose.clone_into(&mut bound.purpose);
            }
            return;
        }
        if let Some(offer) = offer {
            self.taken.secrets.insert(variable.to_owned());
            self.put(offer.clone(), BoundBy::Job, purpose);
        } else if self.spec.auto_bind {
            let reference = SecretReference {
                team: None,
                name: variable.to_owned(),
                env_var: None,
                field: None,
                version: None,
                optional: false,
                store: None,
            };
            self.put(reference, BoundBy::AutoBind, purpose);
        } else {
            self.problem(
                Reason::KeyMissing,
                format!(
                    "it needs {variable}, {purpose}; name a team secret for it in benchmarks[{}].secrets or secrets{or} (autoBind is off)",
                    self.index
                ),
            );
        }
    }

    fn bound(&self, variable: &str) -> Option<&Bound> {
        self.binding.secrets.iter().find(|bound| bound.reference.variable() == variable)
    }

    fn put(&mut self, reference: SecretReference, by: BoundBy, purpose: &str) {
        if let Some(there) = self.bound(reference.variable()) {
            let there = there.purpose.clone();
            self.problem(
                Reason::EnvVarConflict,
                format!("{} is set twice: {there}, and {purpose}; take one out", reference.variable()),
            );
            return;
        }
        self.binding.secrets.push(Bound { reference, by, purpose: purpose.to_owned() });
    }
}

fn address(alias: &str) -> String {
    format!("{}_BASE_URL", alias.to_ascii_uppercase())
}

/// The variable with the key of a model behind an alias.
pub(super) fn key_of(alias: &str) -> String {
    format!("{}_API_KEY", alias.to_ascii_uppercase())
}
