//! Image configs: what runs when a container starts, and what the image was made of
//! (image-spec, "config"; Docker's image specification 1.2 for Healthcheck, Shell, OnBuild).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Descriptor, DiffId, Error, MediaType, Platform};

/// A JSON object whose values stay as they were written, so that editing one field leaves every
/// other one, known or not, byte for byte alone. Written in the order of its keys.
type Object = BTreeMap<String, Box<RawValue>>;

/// The config of a container image.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    fields: Object,
    /// How a container starts: the `config` object.
    pub runtime: Runtime,
    /// Diff IDs of the layers, base first.
    pub diff_ids: Vec<DiffId>,
    /// One entry for each instruction that made the image, base first.
    pub history: Vec<History>,
}

/// The `config` object: defaults for a container's start. Fields that ocib does not know are kept.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    rest: Object,
    /// User and optional group, by name or number.
    pub user: String,
    /// `port[/protocol]`.
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in the order in which they were set.
    pub env: Vec<String>,
    /// The program; `Some(vec![])` where it was reset.
    pub entrypoint: Option<Vec<String>>,
    /// The program's default arguments.
    pub cmd: Option<Vec<String>>,
    /// Windows' mark that the command is escaped already; BuildKit sets it with every CMD.
    pub args_escaped: bool,
    /// Paths meant to be volumes.
    pub volumes: BTreeSet<String>,
    /// Absolute path, or empty.
    pub working_dir: String,
    /// Free-form properties.
    pub labels: BTreeMap<String, String>,
    /// Name or number of the signal that stops the container.
    pub stop_signal: String,
    /// Docker's health check.
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell-form instructions.
    pub shell: Vec<String>,
    /// Instructions for whoever builds from this image.
    pub on_build: Vec<String>,
}

/// Docker's health check; durations are in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time until a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time during which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row until the container is unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// What one instruction did to the image. An entry that was read is written as it was, with the
/// fields that ocib does not know.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    #[serde(skip)]
    raw: Option<Box<RawValue>>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who is named as its author.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The builder's remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ContainerConfig {
    /// The config of an image without layers, for `platform`.
    pub fn scratch(platform: &Platform) -> Self {
        let mut config = Self {
            fields: Object::new(),
            runtime: Runtime::default(),
            diff_ids: Vec::new(),
            history: Vec::new(),
        };
        config.set_platform(platform);
        config
    }

    /// Reads a config blob.
    pub fn parse(raw: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize, Default)]
        struct RootFs {
            #[serde(default)]
            diff_ids: Option<Vec<DiffId>>,
        }
        let mut fields: Object = from_json(raw)?;
        let rootfs: Option<RootFs> = take(&mut fields, "rootfs")?;
        let history: Option<Vec<Box<RawValue>>> = take(&mut fields, "history")?;
        let history =
            history.unwrap_or_default().into_iter().map(History::parse).collect::<Result<_, _>>()?;
        let runtime: Option<Object> = take(&mut fields, "config")?;
        let config = Self {
            runtime: Runtime::from_object(runtime.unwrap_or_default())?,
            diff_ids: rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default(),
            history,
            fields,
        };
        config.top::<String>("architecture")?;
        Ok(config)
    }

    /// The platform that the config names, in normal form; `None` if it lacks system or architecture.
    pub fn platform(&self) -> Option<Platform> {
        let text = |key| self.top::<String>(key).ok().flatten().filter(|text| !text.is_empty());
        let platform = Platform {
            os: text("os")?,
            architecture: text("architecture")?,
            variant: text("variant"),
            os_version: text("os.version"),
            os_features: self.top("os.features").ok().flatten().unwrap_or_default(),
        };
        Some(platform.normalized())
    }

    /// Makes the config name `platform`.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.set("os", Some(&platform.os));
        self.set("architecture", Some(&platform.architecture));
        self.set("variant", platform.variant.as_ref());
    }

    /// Sets the time of creation, as RFC 3339.
    pub fn set_created(&mut self, created: &str) {
        self.set("created", Some(created));
    }

    /// When the image was made, as it was written; RFC 3339 is usual.
    pub fn created(&self) -> Option<String> {
        self.top("created").ok().flatten()
    }

    /// Sets the author (MAINTAINER).
    pub fn set_author(&mut self, author: &str) {
        self.set("author", Some(author));
    }

    /// The author, or nothing.
    pub fn author(&self) -> String {
        self.top("author").ok().flatten().unwrap_or_default()
    }

    /// The config as JSON, keys in order.
    pub fn to_bytes(&self) -> Bytes {
        #[derive(Serialize)]
        struct RootFs<'a> {
            diff_ids: &'a [DiffId],
            r#type: &'static str,
        }
        let mut all = self.fields.clone();
        put(&mut all, "config", Some(&self.runtime.to_object()));
        let history: Vec<Box<RawValue>> = self.history.iter().map(History::to_raw).collect();
        put(&mut all, "history", (!history.is_empty()).then_some(&history));
        put(&mut all, "rootfs", Some(&RootFs { diff_ids: &self.diff_ids, r#type: "layers" }));
        serde_json::to_vec(&all).expect("raw values always serialise").into()
    }

    fn top<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.fields.get(key).map_or(Ok(None), |raw| from_json(raw.get().as_bytes()))
    }

    fn set<T: Serialize + ?Sized>(&mut self, key: &str, value: Option<&T>) {
        put(&mut self.fields, key, value);
    }
}

impl History {
    fn parse(raw: Box<RawValue>) -> Result<Self, Error> {
        let history: Self = from_json(raw.get().as_bytes())?;
        Ok(Self { raw: Some(raw), ..history })
    }

    fn to_raw(&self) -> Box<RawValue> {
        let written = || serde_json::value::to_raw_value(self).expect("strings always serialise");
        self.raw.clone().unwrap_or_else(written)
    }
}

impl Runtime {
    fn from_object(mut rest: Object) -> Result<Self, Error> {
        let fields = &mut rest;
        Ok(Self {
            user: take(fields, "User")?.unwrap_or_default(),
            exposed_ports: take_keys(fields, "ExposedPorts")?,
            env: take(fields, "Env")?.unwrap_or_default(),
            entrypoint: take(fields, "Entrypoint")?,
            cmd: take(fields, "Cmd")?,
            args_escaped: take(fields, "ArgsEscaped")?.unwrap_or_default(),
            volumes: take_keys(fields, "Volumes")?,
            working_dir: take(fields, "WorkingDir")?.unwrap_or_default(),
            labels: take(fields, "Labels")?.unwrap_or_default(),
            stop_signal: take(fields, "StopSignal")?.unwrap_or_default(),
            healthcheck: take(fields, "Healthcheck")?,
            shell: take(fields, "Shell")?.unwrap_or_default(),
            on_build: take(fields, "OnBuild")?.unwrap_or_default(),
            rest,
        })
    }

    fn to_object(&self) -> Object {
        let keys = |set: &BTreeSet<String>| {
            set.iter().map(|key| (key.clone(), Empty {})).collect::<BTreeMap<_, _>>()
        };
        let mut all = self.rest.clone();
        put(&mut all, "User", some(&self.user));
        put(
            &mut all,
            "ExposedPorts",
            (!self.exposed_ports.is_empty()).then(|| keys(&self.exposed_ports)).as_ref(),
        );
        put(&mut all, "Env", (!self.env.is_empty()).then_some(&self.env));
        put(&mut all, "Entrypoint", self.entrypoint.as_ref());
        put(&mut all, "Cmd", self.cmd.as_ref());
        put(&mut all, "ArgsEscaped", self.args_escaped.then_some(&true));
        put(&mut all, "Volumes", (!self.volumes.is_empty()).then(|| keys(&self.volumes)).as_ref());
        put(&mut all, "WorkingDir", some(&self.working_dir));
        put(&mut all, "Labels", (!self.labels.is_empty()).then_some(&self.labels));
        put(&mut all, "StopSignal", some(&self.stop_signal));
        put(&mut all, "Healthcheck", self.healthcheck.as_ref());
        put(&mut all, "Shell", (!self.shell.is_empty()).then_some(&self.shell));
        put(&mut all, "OnBuild", (!self.on_build.is_empty()).then_some(&self.on_build));
        all
    }
}

/// The config blob of an image: a container's, or whatever an artifact put there.
#[derive(Clone, Debug)]
pub enum Config {
    /// The config of a container image.
    Container(Box<ContainerConfig>),
    /// Any other bytes, with their type: artifacts have configs that no image has.
    Artifact(MediaType, Bytes),
}

impl Config {
    /// Reads the blob behind `descriptor`, as its media type says.
    pub fn parse(descriptor: &Descriptor, raw: Bytes) -> Result<Self, Error> {
        match descriptor.media_type.to_oci() {
            MediaType::Config => Ok(Self::Container(Box::new(ContainerConfig::parse(&raw)?))),
            _ => Ok(Self::Artifact(descriptor.media_type.clone(), raw)),
        }
    }
}

#[derive(Serialize)]
struct Empty {}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn from_json<T: DeserializeOwned>(raw: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(raw)
        .map_err(|error| Error::BadDocument { media_type: MediaType::Config, why: error.to_string() })
}

/// Removes a field and reads it; `null` is absent.
fn take<T: DeserializeOwned>(object: &mut Object, key: &str) -> Result<Option<T>, Error> {
    let Some(raw) = object.remove(key) else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map_err(|error| Error::BadDocument { media_type: MediaType::Config, why: format!("{key}: {error}") })
}

/// Removes a field that is a set written as an object with empty values.
fn take_keys(object: &mut Object, key: &str) -> Result<BTreeSet<String>, Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = take(object, key)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn put<T: Serialize + ?Sized>(object: &mut Object, key: &str, value: Option<&T>) {
    let raw = value
        .map(|value| serde_json::value::to_raw_value(value).expect("strings and lists always serialise"));
    match raw {
        Some(raw) => object.insert(key.to_owned(), raw),
        None => object.remove(key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{"architecture":"arm64","os":"linux","variant":"v8","x.vendor":{"b":1.50,"a":[1,2]},"config":{"Env":["PATH=/bin"],"ArgsEscaped":true,"Healthcheck":{"Test":["CMD","x"],"Interval":5000000000},"OnBuild":null,"ExposedPorts":{"80/tcp":null},"Vendor":{"z":0,"a":0}},"rootfs":{"type":"layers","diff_ids":["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]},"history":[{"created_by":"x","vendor":{"b":1,"a":2}}]}"#;

    #[test]
    fn editing_keeps_what_is_not_known() {
        let mut config = ContainerConfig::parse(BASE.as_bytes()).unwrap();
        assert_eq!(config.platform().unwrap().to_string(), "linux/arm64");
        config.runtime.env.push("A=b".into());
        config.set_created("1970-01-01T00:00:00Z");
        assert_eq!(
            std::str::from_utf8(&config.to_bytes()).unwrap(),
            r#"{"architecture":"arm64","config":{"ArgsEscaped":true,"Env":["PATH=/bin","A=b"],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":5000000000},"Vendor":{"z":0,"a":0}},"created":"1970-01-01T00:00:00Z","history":[{"created_by":"x","vendor":{"b":1,"a":2}}],"os":"linux","rootfs":{"diff_ids":["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],"type":"layers"},"variant":"v8","x.vendor":{"b":1.50,"a":[1,2]}}"#
        );
    }

    #[test]
    fn null_sections_are_empty_and_nonsense_is_refused() {
        let config =
            ContainerConfig::parse(br#"{"config":null,"rootfs":{"diff_ids":null},"history":null}"#).unwrap();
        assert_eq!((config.platform(), config.diff_ids.len(), config.history.len()), (None, 0, 0));
        let error = ContainerConfig::parse(br#"{"config":{"Env":3}}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a document of type application/vnd.oci.image.config.v1+json cannot be read: Env: invalid type: integer \
             `3`, expected a sequence at line 1 column 1"
        );
    }
}
