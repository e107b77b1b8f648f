//! One file of rules, read with the place of every word (containers-registries.conf(5), version 2).

use std::{collections::BTreeMap, fs, ops::Range, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::rule::{Mirror, Place, Pulls, Rule};
use crate::{ConfigProblem, Error};

/// What a file says.
#[derive(Default, Debug)]
pub(super) struct RuleFile {
    pub(super) rules: Vec<Rule>,
    /// What of it makes no difference, in the order of the file.
    pub(super) notes: Vec<String>,
}

/// What containers' tools know and ocib has no use for, and why.
const UNUSED: [(&str, &str); 6] = [
    ("unqualified-search-registries", SHORT_NAMES),
    ("short-name-mode", SHORT_NAMES),
    ("aliases", SHORT_NAMES),
    ("credential-helpers", "helpers are named in the files of credentials"),
    ("additional-layer-store-auth-helper", "there are no layer stores"),
    ("registries", "its lists are those of version 1"),
];
const SHORT_NAMES: &str = "short names are completed as Docker does, with docker.io";
const REGISTRY_KEYS: [&str; 6] =
    ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror"];
const MIRROR_KEYS: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

impl RuleFile {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bytes =
            fs::read(path).map_err(|source| Error::File { verb: "read", path: path.to_owned(), source })?;
        Self::parse(path, &String::from_utf8_lossy(&bytes))
    }

    /// Reads `text`, which `path` is the name of.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut reader = Reader { file: path.into(), text, notes: BTreeMap::new() };
        let document = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(text.len()..text.len());
            reader.problem(span, format!("not TOML: {}", error.message().replace('\n', ", ")))
        })?;
        let rules = reader.rules(document.get_ref())?;
        let notes = reader.notes.into_values().flatten().collect();
        Ok(Self { rules, notes })
    }
}

struct Reader<'t> {
    file: Arc<Path>,
    text: &'t str,
    /// By where they belong.
    notes: BTreeMap<usize, Vec<String>>,
}

/// A table and where it stands.
type Table<'a, 't> = (&'a DeTable<'t>, Range<usize>);

impl<'t> Reader<'t> {
    fn rules(&mut self, document: &DeTable<'t>) -> Result<Vec<Rule>, Error> {
        for (key, value) in document.iter().filter(|(key, _)| key.get_ref() != "registry") {
            let name: &str = key.get_ref();
            if name == "registries" {
                self.refuse_version_1(value)?;
            }
            match UNUSED.iter().find(|(unused, _)| *unused == name) {
                Some((_, why)) => self.note(&key.span(), &format!("`{name}` makes no difference: {why}")),
                None => self.unknown(name, &key.span()),
            }
        }
        let mut rules: Vec<Rule> = Vec::new();
        for table in self.tables(document, "registry")? {
            let span = table.1.clone();
            let rule = self.rule(table)?;
            self.check_conflicts(&rules, &rule, &span)?;
            match rules.iter().find(|known| known.prefix == rule.prefix) {
                Some(first) => {
                    let text =
                        format!("the prefix {} has its rule in line {}", rule.prefix, first.place.line);
                    self.note(&span, &format!("this table makes no difference: {text}"));
                }
                None => rules.push(rule),
            }
        }
        Ok(rules)
    }

    /// Lists of search registries harm nobody; insecure and blocked ones would be missed.
    fn refuse_version_1(&self, registries: &Spanned<DeValue<'t>>) -> Result<(), Error> {
        let lists = registries.get_ref().as_table().into_iter().flatten();
        for (key, value) in lists.filter(|(key, _)| matches!(key.get_ref().as_ref(), "insecure" | "block")) {
            let list = value.get_ref().as_table().and_then(|table| table.get("registries"));
            if list.and_then(|list| list.get_ref().as_array()).is_none_or(|list| !list.is_empty()) {
                let why =
                    "version 1 of the format, expected [[registry]] tables with `insecure` or `blocked`";
                return Err(self.problem(key.span(), why));
            }
        }
        Ok(())
    }

    fn rule(&mut self, (table, span): Table<'_, 't>) -> Result<Rule, Error> {
        self.check_keys(table, &REGISTRY_KEYS)?;
        let location = self.location(table, "location")?;
        let prefix = match self.location(table, "prefix")? {
            Some(prefix) => prefix,
            None => location.clone().ok_or_else(|| {
                self.problem(span.clone(), "this table has neither `prefix` nor `location`, expected one")
            })?,
        };
        if location.is_none() && !prefix.starts_with("*.") {
            let why = "this table has no `location`, which only a `prefix` like *.example.com can do without";
            return Err(self.problem(span, why));
        }
        let by_digest_only = self.flag(table, "mirror-by-digest-only")?;
        let mut mirrors = Vec::new();
        for mirror in self.tables(table, "mirror")? {
            mirrors.push(self.mirror(mirror, by_digest_only)?);
        }
        Ok(Rule {
            prefix,
            location,
            is_insecure: self.flag(table, "insecure")?,
            is_blocked: self.flag(table, "blocked")?,
            mirrors,
            place: Place { file: Arc::clone(&self.file), line: self.line(span.start) },
        })
    }

    fn mirror(&mut self, (table, span): Table<'_, 't>, by_digest_only: bool) -> Result<Mirror, Error> {
        self.check_keys(table, &MIRROR_KEYS)?;
        let pulls = match self.text(table, "pull-from-mirror")? {
            None | Some(("", _)) if by_digest_only => Pulls::ByDigest,
            Some((_, span)) if by_digest_only => {
                let why = "`pull-from-mirror` cannot stand beside the registry's `mirror-by-digest-only`";
                return Err(self.problem(span, why));
            }
            None | Some(("" | "all", _)) => Pulls::All,
            Some(("digest-only", _)) => Pulls::ByDigest,
            Some(("tag-only", _)) => Pulls::ByTag,
            Some((_, span)) => {
                return Err(self.problem(span, "expected \"all\", \"digest-only\" or \"tag-only\""));
            }
        };
        let location = self.location(table, "location")?;
        let location = location.ok_or_else(|| self.problem(span, "this mirror has no `location`"))?;
        Ok(Mirror { location, is_insecure: self.flag(table, "insecure")?, pulls })
    }

    /// One location that is insecure here and secure there would depend on which name is asked for.
    fn check_conflicts(&self, rules: &[Rule], rule: &Rule, span: &Range<usize>) -> Result<(), Error> {
        let physical = |rule: &Rule| rule.location.clone().unwrap_or_else(|| rule.prefix.clone());
        for other in rules.iter().filter(|other| physical(other) == physical(rule)) {
            let key = match (other.is_insecure == rule.is_insecure, other.is_blocked == rule.is_blocked) {
                (false, _) => "insecure",
                (_, false) => "blocked",
                _ => continue,
            };
            let (location, line) = (physical(rule), other.place.line);
            let why = format!("{location} has another `{key}` in line {line}, expected the same");
            return Err(self.problem(span.clone(), why));
        }
        Ok(())
    }

    /// `HOST[:PORT][/PATH]`, without the slash that people put at its end.
    fn location(&self, table: &DeTable<'t>, key: &str) -> Result<Option<String>, Error> {
        let Some((text, span)) = self.text(table, key)? else { return Ok(None) };
        let trimmed = text.trim_end_matches('/');
        if trimmed.contains("://") {
            return Err(self.problem(span, "this is a URL, expected HOST[:PORT][/PATH]"));
        }
        if trimmed.is_empty() || trimmed.starts_with('/') || trimmed.contains(char::is_whitespace) {
            return Err(self.problem(span, "expected HOST[:PORT][/PATH]"));
        }
        Ok(Some(trimmed.to_owned()))
    }

    fn text<'a>(&self, table: &'a DeTable<'t>, key: &str) -> Result<Option<(&'a str, Range<usize>)>, Error> {
        let Some(value) = table.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some((text, value.span()))),
            None => Err(self.wrong_type(value, "a string")),
        }
    }

    fn flag(&self, table: &DeTable<'t>, key: &str) -> Result<bool, Error> {
        let Some(value) = table.get(key) else { return Ok(false) };
        value.get_ref().as_bool().ok_or_else(|| self.wrong_type(value, "true or false"))
    }

    fn tables<'a>(&self, table: &'a DeTable<'t>, key: &str) -> Result<Vec<Table<'a, 't>>, Error> {
        let Some(value) = table.get(key) else { return Ok(Vec::new()) };
        let wanted =
            format!("tables, each under [[{}]]", if key == "mirror" { "registry.mirror" } else { key });
        let Some(array) = value.get_ref().as_array() else { return Err(self.wrong_type(value, &wanted)) };
        let table = |value: &'a Spanned<DeValue<'t>>| match value.get_ref().as_table() {
            Some(table) => Ok((table, value.span())),
            None => Err(self.wrong_type(value, &wanted)),
        };
        array.iter().map(table).collect()
    }

    fn check_keys(&mut self, table: &DeTable<'t>, known: &[&str]) -> Result<(), Error> {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if name == "pull-from-mirror" && !known.contains(&name) {
                return Err(self.problem(key.span(), "`pull-from-mirror` is for mirrors only"));
            }
            if !known.contains(&name) {
                self.unknown(name, &key.span());
            }
        }
        Ok(())
    }

    /// A key that a later version knows must not break what this one can do.
    fn unknown(&mut self, name: &str, span: &Range<usize>) {
        let name = ocib_net::printable(name.as_bytes(), 60);
        self.note(span, &format!("`{name}` makes no difference: there is no such key"));
    }

    fn note(&mut self, span: &Range<usize>, text: &str) {
        let note = format!("{}:{}: {text}", self.file.display(), self.line(span.start));
        self.notes.entry(span.start).or_default().push(note);
    }

    fn wrong_type(&self, value: &Spanned<DeValue<'t>>, wanted: &str) -> Error {
        self.problem(
            value.span(),
            format!("this is of the type {}, expected {wanted}", value.get_ref().type_str()),
        )
    }

    fn problem(&self, span: Range<usize>, why: impl Into<String>) -> Error {
        let (file, text) = (self.file.to_path_buf(), self.text.to_owned());
        Error::RegistryConfig(Box::new(ConfigProblem { file, text, span, why: why.into() }))
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }
}
