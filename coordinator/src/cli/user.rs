//! `muster user`: people and automation, and the access string that each is handed once.

use muster_proto::{
    Secret,
    wire::{CreateUserRequest, ListUsersRequest, RemoveUserRequest},
};

use super::{
    Context, Verdict,
    args::{Format, UserCommand},
    connect::{QUICK, call},
    endpoint::Endpoint,
    error::CliError,
};
use crate::render::user::{AddedJson, RemovedJson, UsersJson, added, list};

pub async fn run(context: &mut Context, command: UserCommand) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    match command {
        UserCommand::Add { name, role, ttl } => {
            let request = CreateUserRequest { name: name.clone(), role: role.wire().into(), ttl_s: ttl.seconds };
            let doing = format!("adding user {name}");
            let answer = context.change(&doing, trust.create_user(request)).await?;
            let user = answer.user.clone().ok_or(CliError::Hollow { doing, missing: "user" })?;
            let access = Secret::new(answer.access);
            if context.format == Format::Json {
                context.show(String::new, || AddedJson::new(&access, &user));
                return Ok(Verdict::Done);
            }
            context.console.data(&format!("{}\n", access.expose()));
            // Whoever is on the socket does not know under which name others reach this coordinator.
            let endpoint = context.target.as_ref().map(|target| &target.endpoint);
            let endpoint = endpoint.filter(|endpoint| matches!(endpoint, Endpoint::Https { .. }));
            let endpoint = endpoint.map_or_else(|| "https://HOST:PORT".to_owned(), ToString::to_string);
            context.console.note(&added(&user, &endpoint));
        }
        UserCommand::List => {
            let users = call("listing users", QUICK, trust.list_users(ListUsersRequest {})).await?.users;
            context.show(|| list(&users), || UsersJson::from(&*users));
        }
        UserCommand::Remove { name } => {
            let request = RemoveUserRequest { name: name.clone() };
            context.change(&format!("removing user {name}"), trust.remove_user(request)).await?;
            context.show(|| format!("user {name} is let in no more\n"), || RemovedJson::new(&name));
        }
    }
    Ok(Verdict::Done)
}
