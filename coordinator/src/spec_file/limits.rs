//! The spec's `[limits]`, from written to believed.

use std::fmt;

use muster_proto::{Cpus, Limits};
use toml::{Spanned, Value};

use super::{Wrong, line_of, written::Written};

/// What each instance may take of its host.
pub(super) fn limits(written: &Written, text: &str) -> Result<Limits, Wrong> {
    fn wrong<T>(text: &str, key: &str, value: &Spanned<T>, error: &dyn fmt::Display, cure: &str) -> Wrong {
        Wrong {
            line: line_of(text, &value.span()),
            what: format!("limits.{key}: {error}"),
            cure: Some(cure.to_owned()),
        }
    }
    let memory = |value: &Spanned<String>| {
        value.as_ref().parse().map_err(|error| wrong(text, "memory", value, &error, "write memory = \"4GiB\""))
    };
    let cpus = |value: &Spanned<Value>| {
        #[allow(clippy::cast_precision_loss, reason = "what a person writes here is small, or refused")]
        let number = match value.get_ref() {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            other => {
                let what = format!("a {} is no number of processors", other.type_str());
                return Err(wrong(text, "cpus", value, &what, "write cpus = 1.5"));
            }
        };
        Cpus::of(number).map_err(|error| wrong(text, "cpus", value, &error, "write cpus = 1.5"))
    };
    Ok(Limits {
        memory: written.limits.memory.as_ref().map(memory).transpose()?,
        cpus: written.limits.cpus.as_ref().map(cpus).transpose()?,
    })
}
