//! `streamward schema`: the schemas of a registry, ours or another one.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    ConfigSource, Exit, Failure, client,
    table::{plain, table},
};
use crate::{
    adapters::registry::{CallError, Method, RegistryHttp, segment},
    app::registry_settings,
    config::{Config, Exposure, RegistryConfig},
};

/// List, register, compare and delete schemas.
#[derive(Debug, Args)]
#[command(
    long_about = "Works on the registry of a running server, or on any registry with Confluent's REST interface: the one \
                  at --url, else the one of the configuration.",
    after_help = "Examples:\n  streamward schema list\n  streamward schema check order.avsc --subject orders-value\n  \
                  streamward schema register order.avsc --subject orders-value\n  \
                  streamward schema config orders-value --level full"
)]
pub struct SchemaArgs {
    #[command(subcommand)]
    what: What,
    /// Base URL of the registry, with credentials where it wants them.
    #[arg(long, global = true, env = "STREAMWARD_REGISTRY_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Also name the request in messages of errors.
    #[arg(long, global = true)]
    verbose: bool,
    /// Configuration file; without it ./config.yaml, else the built-in one.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key of the configuration; repeatable.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = crate::config::parse_set)]
    sets: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Subjects with their versions, the id of the latest one, type and level.
    #[command(after_help = "Example:\n  streamward schema list --json")]
    List,
    /// One schema, by subject or by id.
    #[command(
        after_help = "Examples:\n  streamward schema show orders-value --version 2\n  streamward schema show --id 7"
    )]
    Show(ShowArgs),
    /// Register a file under a subject.
    #[command(
        after_help = "Example:\n  streamward schema register order.avsc --subject orders-value --reference shop.Item=items-value:1"
    )]
    Register(FileArgs),
    /// Say whether a file may be registered; exit code 1 and the reasons if not.
    #[command(after_help = "Example:\n  streamward schema check order.avsc --subject orders-value")]
    Check(FileArgs),
    /// Delete a subject or one of its versions.
    #[command(
        after_help = "Example:\n  streamward schema delete orders-value --version 3\n  streamward schema delete orders-value --version 3 --permanent"
    )]
    Delete(DeleteArgs),
    /// Show or change compatibility level and mode, of a subject or of the registry.
    #[command(
        after_help = "Examples:\n  streamward schema config\n  streamward schema config orders-value --level full_transitive\n  streamward schema config orders-value --mode readonly"
    )]
    Config(SettingsArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Subject.
    #[arg(required_unless_present = "id")]
    subject: Option<String>,
    /// Version of the subject: a number, or latest.
    #[arg(long, default_value = "latest")]
    version: String,
    /// Id of the schema, instead of a subject.
    #[arg(long, conflicts_with = "subject")]
    id: Option<u32>,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// File with the schema.
    file: PathBuf,
    /// Subject.
    #[arg(long)]
    subject: String,
    /// Kind of schema; without it by the file's name: .proto, .json, all others are Avro.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    /// A schema that this one refers to, by the name that it has there; repeatable.
    #[arg(long = "reference", value_name = "NAME=SUBJECT:VERSION", value_parser = reference)]
    references: Vec<Value>,
    /// Bring it into normal form first.
    #[arg(long)]
    normalize: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Avro,
    Json,
    Protobuf,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// Subject.
    subject: String,
    /// One version alone: a number, or latest.
    #[arg(long)]
    version: Option<String>,
    /// For ever; it must have been deleted before. Its id no longer resolves then.
    #[arg(long)]
    permanent: bool,
}

#[derive(Debug, Args)]
struct SettingsArgs {
    /// Subject; without it the registry as a whole.
    subject: Option<String>,
    /// Compatibility level: none, backward, forward, full or one of these with _transitive.
    #[arg(long)]
    level: Option<String>,
    /// Mode: readwrite, readonly, readonly_override or import.
    #[arg(long)]
    mode: Option<String>,
    /// Take the subject's own level and mode away.
    #[arg(long, conflicts_with_all = ["level", "mode"], requires = "subject")]
    reset: bool,
}

/// `NAME=SUBJECT:VERSION`, as the protocol has it.
fn reference(text: &str) -> Result<Value, String> {
    let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.rsplit_once(':')?)));
    let (name, (subject, version)) = parts.ok_or("expected NAME=SUBJECT:VERSION")?;
    let version: u32 = version.parse().map_err(|_| format!("'{version}' is no version"))?;
    Ok(json!({"name": name, "subject": subject, "version": version}))
}

pub fn schema(args: &SchemaArgs) -> Result<Exit, Failure> {
    actix::System::new().block_on(async {
        let command = Command { http: args.http()?, json: args.json, verbose: args.verbose };
        match &args.what {
            What::List => command.list().await,
            What::Show(show) => command.show(show).await,
            What::Register(file) => command.register(file).await,
            What::Check(file) => command.check(file).await,
            What::Delete(delete) => command.delete(delete).await,
            What::Config(settings) => command.settings(settings).await,
        }
    })
}

impl SchemaArgs {
    fn http(&self) -> Result<RegistryHttp, Failure> {
        let registry = match &self.url {
            Some(url) => {
                let url = client::parse(url).map_err(|reason| Failure::usage(format_args!("--url: {reason}")))?;
                RegistryConfig { url: Some(url.as_str().into()), ..RegistryConfig::default() }
            }
            None => self.configured()?,
        };
        let settings = registry_settings(&registry).map_err(Failure::usage)?;
        let settings = settings.ok_or_else(|| Failure::usage("there is no registry: give its address with --url"))?;
        RegistryHttp::new(&settings).map_err(Failure::usage)
    }

    /// The registry of the configuration; the embedded one by the address that it listens on.
    fn configured(&self) -> Result<RegistryConfig, Failure> {
        let source = ConfigSource { config: self.config.clone(), sets: self.sets.clone(), data_dir: None };
        let loaded = Config::load(&source.sources(Exposure::Insecure)).map_err(Failure::usage)?;
        let mut registry = loaded.config.registry;
        if registry.url.is_none() {
            let listen = registry.embedded.listen.get();
            if listen.port() == 0 {
                let reason = "the registry's port is chosen at its start: give its address with --url";
                return Err(Failure::usage(reason));
            }
            registry.url = Some(format!("http://{listen}").as_str().into());
        }
        Ok(registry)
    }
}

impl FileArgs {
    /// The body of a request, and where it goes below `/subjects`.
    fn body(&self) -> Result<Value, Failure> {
        let unread = |error| Failure::usage(format_args!("read {}: {error}", self.file.display()));
        let text = fs::read_to_string(&self.file).map_err(unread)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let ending = self.file.extension().and_then(|ending| ending.to_str());
        let kind = self.kind.unwrap_or(match ending {
            Some("proto") => Kind::Protobuf,
            Some("json") => Kind::Json,
            _ => Kind::Avro,
        });
        let mut body = json!({ "schema": text });
        match kind {
            Kind::Avro => {}
            Kind::Json => body["schemaType"] = "JSON".into(),
            Kind::Protobuf => body["schemaType"] = "PROTOBUF".into(),
        }
        if !self.references.is_empty() {
            body["references"] = self.references.clone().into();
        }
        Ok(body)
    }

    fn query(&self) -> &'static str {
        if self.normalize { "normalize=true" } else { "normalize=false" }
    }
}

struct Command {
    http: RegistryHttp,
    json: bool,
    verbose: bool,
}

impl Command {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.http.call(method, path, body).await.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: CallError) -> Failure {
        match error {
            CallError::Unavailable(reason) => {
                Failure::unreachable(format_args!("{reason} (another registry is named with --url)"))
            }
            CallError::Refused { .. } if self.verbose => Failure::refused(error),
            CallError::Refused { message, code, .. } => Failure::refused(format_args!("{message} (error code {code})")),
        }
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Prints a result, as JSON or as the lines made of it.
    ///
    /// # Errors
    /// It cannot be written.
    fn print(&self, result: &Value, lines: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        let text = if self.json { format!("{result:#}") } else { lines(result) };
        super::say_line(format_args!("{}", text.trim_end()))?;
        Ok(())
    }

    async fn list(&self) -> Result<Exit, Failure> {
        let mut rows = Vec::new();
        for subject in self.get("/subjects").await?.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let path = format!("/subjects/{}/versions", segment(subject));
            let (versions, latest) = (self.get(&path).await?, self.get(&format!("{path}/latest")).await?);
            let config = self.get(&format!("/config/{}?defaultToGlobal=true", segment(subject))).await?;
            rows.push(json!({
                "subject": subject, "versions": versions, "id": latest["id"],
                "type": latest["schemaType"].as_str().unwrap_or("AVRO"), "level": config["compatibilityLevel"],
            }));
        }
        self.print(&rows.into(), |rows| listed(rows.as_array().map_or(&[], Vec::as_slice)))?;
        Ok(Exit::Done)
    }

    async fn show(&self, args: &ShowArgs) -> Result<Exit, Failure> {
        let found = match (&args.subject, args.id) {
            (_, Some(id)) => self.get(&format!("/schemas/ids/{id}")).await?,
            (subject, None) => {
                let subject = segment(subject.as_deref().unwrap_or_default());
                self.get(&format!("/subjects/{subject}/versions/{}", segment(&args.version))).await?
            }
        };
        self.print(&found, |found| {
            let heads = ["subject", "version", "id", "schemaType", "references"].into_iter();
            let heads = heads.filter(|head| !found[*head].is_null() && found[*head] != json!([]));
            let heads: String = heads.map(|head| format!("{head}: {}\n", plain(&found[head]))).collect();
            let text = found["schema"].as_str().unwrap_or_default();
            let pretty =
                serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |json| format!("{json:#}"));
            format!("{heads}{pretty}")
        })?;
        Ok(Exit::Done)
    }

    async fn register(&self, args: &FileArgs) -> Result<Exit, Failure> {
        let (body, subject) = (args.body()?, segment(&args.subject));
        let registered =
            self.call(Method::POST, &format!("/subjects/{subject}/versions?{}", args.query()), Some(&body)).await?;
        self.print(&registered, |registered| format!("{} has the id {}", args.subject, registered["id"]))?;
        Ok(Exit::Done)
    }

    async fn check(&self, args: &FileArgs) -> Result<Exit, Failure> {
        let (body, subject) = (args.body()?, segment(&args.subject));
        let path = format!("/compatibility/subjects/{subject}/versions?verbose=true&{}", args.query());
        let verdict = self.call(Method::POST, &path, Some(&body)).await?;
        let fits = verdict["is_compatible"] == true;
        self.print(&verdict, |verdict| match verdict["messages"].as_array() {
            _ if fits => format!("{} may be registered under {}", args.file.display(), args.subject),
            Some(reasons) => reasons.iter().map(|reason| plain(reason) + "\n").collect(),
            None => "it is incompatible".to_owned(),
        })?;
        Ok(Exit::of_check(fits))
    }

    async fn delete(&self, args: &DeleteArgs) -> Result<Exit, Failure> {
        let mut path = format!("/subjects/{}", segment(&args.subject));
        if let Some(version) = &args.version {
            path = format!("{path}/versions/{}", segment(version));
        }
        let deleted = self.call(Method::DELETE, &format!("{path}?permanent={}", args.permanent), None).await?;
        let how = if args.permanent { "deleted for ever" } else { "deleted; with --permanent for ever" };
        self.print(&deleted, |deleted| format!("{} {}: {how}", args.subject, plain(deleted)))?;
        Ok(Exit::Done)
    }

    async fn settings(&self, args: &SettingsArgs) -> Result<Exit, Failure> {
        let below = args.subject.as_ref().map(|subject| format!("/{}", segment(subject))).unwrap_or_default();
        if let Some(level) = &args.level {
            let body = json!({ "compatibility": level.to_uppercase() });
            self.call(Method::PUT, &format!("/config{below}"), Some(&body)).await?;
        }
        if let Some(mode) = &args.mode {
            let body = json!({ "mode": mode.to_uppercase() });
            self.call(Method::PUT, &format!("/mode{below}"), Some(&body)).await?;
        }
        if args.reset {
            self.reset(&below).await?;
        }
        let config = self.get(&format!("/config{below}?defaultToGlobal=true")).await?;
        let mut shown = json!({ "level": config["compatibilityLevel"] });
        match self.http.call(Method::GET, &format!("/mode{below}?defaultToGlobal=true"), None).await {
            Ok(mode) => shown["mode"] = mode["mode"].clone(),
            // Not every registry has modes.
            Err(CallError::Refused { status: 404, .. }) => {}
            Err(error) => return Err(self.failure(error)),
        }
        if let Some(normalize) = config["normalize"].as_bool() {
            shown["normalize"] = normalize.into();
        }
        self.print(&shown, |shown| {
            let pairs = shown.as_object().into_iter().flatten();
            pairs.map(|(key, value)| format!("{key}: {}\n", plain(value))).collect()
        })?;
        Ok(Exit::Done)
    }

    /// Takes own settings away; a subject without any is as it should be.
    async fn reset(&self, below: &str) -> Result<(), Failure> {
        for path in [format!("/config{below}"), format!("/mode{below}")] {
            match self.http.call(Method::DELETE, &path, None).await {
                Err(error) if !error.is_not_found() => return Err(self.failure(error)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Subjects as lines.
fn listed(subjects: &[Value]) -> String {
    if subjects.is_empty() {
        return "no subjects".to_owned();
    }
    let columns = ["subject", "versions", "id", "type", "level"];
    let cell = |subject: &Value, column: &str| plain(&subject[column]).trim_matches(['[', ']']).to_owned();
    let row = |subject: &Value| columns.iter().map(|column| cell(subject, column)).collect();
    table(&columns, &subjects.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_shown_in_columns() {
        let row = json!({"subject": "orders-value", "versions": [1, 12], "id": 7, "type": "AVRO", "level": "FULL"});
        let wanted = "SUBJECT       VERSIONS  ID  TYPE  LEVEL\norders-value  1,12      7   AVRO  FULL\n";
        assert_eq!(listed(&[row]), wanted);
        assert_eq!(listed(&[]), "no subjects");
    }

    #[test]
    fn a_reference_is_a_name_a_subject_and_a_version() {
        let wanted = json!({"name": "shop.Item", "subject": "a:b", "version": 3});
        assert_eq!(reference("shop.Item=a:b:3"), Ok(wanted));
        for wrong in ["shop.Item", "shop.Item=items", "shop.Item=items:x", "shop.Item=items:-1"] {
            assert!(reference(wrong).is_err(), "{wrong}");
        }
    }
}
