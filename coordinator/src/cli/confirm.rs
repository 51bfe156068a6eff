//! The typed name: what cannot be taken back is done only after somebody has typed what it is done to.

use super::{Context, error::CliError};

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
        Some(confirm) => Some(confirm),
        None if context.console.asks => {
            context.console.note(meaning);
            context.console.ask(&format!("Type {name} to go on: ")).await
        }
        None => {
            return Err(CliError::Usage {
                what: format!("there is no terminal to type {name} on"),
                hint: format!("{again} --confirm {name}"),
            });
        }
    };
    let fits = typed.is_some_and(|typed| typed.trim() == name);
    if fits { Ok(()) } else { Err(CliError::Unconfirmed(name.to_owned())) }
}
