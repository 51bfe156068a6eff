//! A spec as written: TOML in known keys, nothing believed yet. Each value keeps its place in the text, so that whoever
//! believes it can name the line.

use std::{collections::BTreeMap, fmt, ops::Range, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::{Spanned, Value};

use super::{Wrong, line_of};

type Settings = BTreeMap<Spanned<String>, Spanned<Value>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub name: Spanned<String>,
    pub replicas: Option<Spanned<u32>>,
    pub masters: Option<Spanned<u32>>,
    #[serde(default)]
    pub allow_shared_host: bool,
    #[serde(default)]
    pub hosts: Vec<Spanned<WrittenHost>>,
    pub auth: Option<Spanned<String>>,
    pub acl: Option<Spanned<WrittenAcl>>,
    pub tls: Option<WrittenTls>,
    #[serde(default)]
    pub limits: WrittenLimits,
    #[serde(default)]
    redis: WrittenRedis,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHost {
    pub name: Spanned<String>,
    pub ports: Spanned<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAcl {
    pub default: Option<Spanned<String>>,
    #[serde(default)]
    pub users: Vec<WrittenUser>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenUser {
    pub name: Spanned<String>,
    pub rules: Spanned<String>,
    #[serde(default)]
    pub password_sha256: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLimits {
    pub memory: Option<Spanned<String>>,
    pub cpus: Option<Spanned<Value>>,
}

/// `tls = true`, `tls = false`, or `[tls]` with the operator's own files. The parser's word for a value that may be two
/// things says nothing of what is wrong with either, so this one is taken by hand.
#[derive(Debug)]
pub(super) enum WrittenTls {
    Switch(bool),
    Files(WrittenFiles),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFiles {
    pub cert_file: Spanned<PathBuf>,
    pub key_file: Spanned<PathBuf>,
    pub ca_file: Spanned<PathBuf>,
}

impl<'de> Deserialize<'de> for WrittenTls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenTls;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a table with cert_file, key_file and ca_file")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<WrittenTls, E> {
                Ok(WrittenTls::Switch(on))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WrittenTls, A::Error> {
                WrittenFiles::deserialize(MapAccessDeserializer::new(map)).map(WrittenTls::Files)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRedis {
    #[serde(default)]
    config: Settings,
}

impl Written {
    /// The settings in the order in which they stand in the file.
    pub fn settings(&self) -> Vec<(&Spanned<String>, &Spanned<Value>)> {
        let mut settings: Vec<_> = self.redis.config.iter().collect();
        settings.sort_by_key(|(key, _)| key.span().start);
        settings
    }
}

/// Reads the text.
pub(super) fn parse(text: &str) -> Result<Written, Wrong> {
    toml::from_str(text).map_err(|error| explain(text, &error))
}

/// What the parser said, with the key, and the nearest known key where one was not known.
fn explain(text: &str, error: &toml::de::Error) -> Wrong {
    let span = error.span().unwrap_or(0..0);
    let line = line_of(text, &span);
    let message = error.message().trim().replace('\n', "; ");
    if let Some(known) = message.strip_prefix("unknown field ") {
        let mut quoted = known.split('`').skip(1).step_by(2);
        let unknown = quoted.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = quoted.collect();
        let cure = match nearest(&unknown, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        return Wrong { line, what: format!("{unknown}: unknown key"), cure: Some(cure) };
    }
    if let Some(missing) = message.strip_prefix("missing field ") {
        let missing = missing.trim_matches('`');
        return Wrong { line, what: format!("{missing}: missing"), cure: Some(format!("add a line {missing} = ...")) };
    }
    let key = key_at(text, &span).map(|key| format!("{key}: ")).unwrap_or_default();
    Wrong { line, what: format!("{key}{message}"), cure: None }
}

/// The key of the line that a value stands on.
fn key_at<'a>(text: &'a str, span: &Range<usize>) -> Option<&'a str> {
    let line = text.lines().nth(line_of(text, span) - 1)?;
    let (key, _) = line.split_once('=')?;
    Some(key.trim())
        .filter(|key| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)))
}

/// The known word that a mistyped one is closest to, if it is close at all: a third of its letters may differ.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|candidate| (distance(word, candidate), *candidate));
    let (distance, candidate) = scored.min()?;
    (distance * 3 <= candidate.len().max(word.len())).then_some(candidate)
}

/// Letters to add, remove, change or swap with a neighbour, '-' and '_' being the same (Damerau and Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let letters = |word: &str| word.to_ascii_lowercase().replace('-', "_").chars().collect::<Vec<_>>();
    let (a, b) = (letters(one), letters(other));
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swap =
                    (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]).then(|| table[i - 2][j - 2] + 1);
                (table[i - 1][j] + 1).min(table[i][j - 1] + 1).min(change).min(swap.unwrap_or(usize::MAX))
            };
        }
    }
    table[a.len()][b.len()]
}
