//! The typed name: what cannot be taken back is done only after somebody has typed what it is done to.

use super::{Context, error::CliError};

/// Refuses what nobody could confirm, before anything is asked of the coordinator: another name stands on the line, or
/// none and there is no terminal. `look` is the command that only looks, `again` the one that does it.
pub fn confirmable(
    context: &Context,
    name: &str,
    confirm: Option<&str>,
    look: &str,
    again: &str,
) -> Result<(), CliError> {
    match confirm {
        Some(other) if other.trim() != name => {
            Err(another(other, name, &format!("look at what would be done: {look}")))
        }
        None if !context.console.asks => Err(nowhere(name, &format!("look first ({look}), then: {again}"))),
        _ => Ok(()),
    }
}

/// Goes on only when the name was typed: on the line, or at the question that says what will happen. `again` is the
/// command for where there is no terminal.
pub async fn confirmed(
    context: &mut Context,
    name: &str,
    confirm: Option<String>,
    meaning: &str,
    again: &str,
) -> Result<(), CliError> {
    let typed = match confirm {
        Some(other) if other.trim() != name => return Err(another(&other, name, &format!("{again} --confirm {name}"))),
        Some(confirm) => Some(confirm),
        None if context.console.asks => {
            context.console.note(meaning);
            context.console.ask(&format!("Type {name} to go on: ")).await
        }
        None => return Err(nowhere(name, again)),
    };
    let fits = typed.is_some_and(|typed| typed.trim() == name);
    if fits { Ok(()) } else { Err(CliError::Unconfirmed(name.to_owned())) }
}

fn another(other: &str, name: &str, hint: &str) -> CliError {
    let what = format!("--confirm says {}, and this is about {name}", other.trim());
    CliError::Usage { what, hint: hint.to_owned() }
}

fn nowhere(name: &str, again: &str) -> CliError {
    let what = format!("there is no terminal to type {name} on");
    CliError::Usage { what, hint: format!("{again} --confirm {name}") }
}
