//! A client of the cluster, as any application would be: one key for each master, written, read and removed.
//!
//! Every wait has an end: 2 s to connect, 2 s for an answer, 10 s for all of one master with its redirects and retries.
//! A key that could not be removed expires by itself.

use std::time::{Duration, Instant};

use muster_proto::{convert::micros, slots, wire::SmokeStep};
use redis::{AsyncConnectionConfig, RedisError, aio::ConnectionLike, cmd};

use super::{Access, Master};
use crate::render;

const PATIENCE: Duration = Duration::from_secs(2);
const IN_ALL: Duration = Duration::from_secs(10);
const EXPIRE_MS: u32 = 60_000;
const PREFIX: &str = "muster:smoke:";

/// A step for each master, all side by side, in their order.
pub(super) async fn visit(masters: &[Master], access: &Access) -> Vec<SmokeStep> {
    let seeds: Vec<_> = masters.iter().map(|master| (master.address.clone(), master.port)).collect();
    let visits: Vec<_> = (0..masters.len())
        .map(|nth| {
            let master = masters[nth].clone();
            // The next one, round and round: somebody else wherever there is somebody else.
            let stranger = masters[(nth + 1) % masters.len()].clone();
            tokio::spawn(one(master, stranger, seeds.clone(), access.clone()))
        })
        .collect();
    let mut steps = Vec::new();
    for visit in visits {
        // A visit that panicked is told by the panic hook, and by what is missing here.
        steps.push(visit.await.unwrap_or_else(|error| SmokeStep { error: error.to_string(), ..SmokeStep::default() }));
    }
    steps
}

async fn one(master: Master, stranger: Master, seeds: Vec<(String, u16)>, access: Access) -> SmokeStep {
    let name = name(&master);
    let key = slots::key_in(PREFIX, master.slots[0]);
    let slot = slots::key_slot(key.as_bytes()).into();
    let mut step = SmokeStep { slot, key, asked: name.clone(), ..SmokeStep::default() };
    let work = async {
        if stranger != master {
            ask(&mut step, &stranger, &access).await?;
        }
        if step.answered.is_empty() {
            step.answered = name.clone();
        }
        let started = Instant::now();
        let done = through_the_cluster(&step.key, &seeds, &access).await;
        step.micros = micros(started.elapsed());
        done.map_err(|error| format!("{}: {error}", step.answered))
    };
    match tokio::time::timeout(IN_ALL, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => step.error = error,
        Err(_) => step.error = format!("{name}: not done within {} s", IN_ALL.as_secs()),
    }
    step
}

/// Sends the write to somebody whose slot it is not, to see the redirect. A stranger that cannot be reached is not this
/// master's fault, and has a step of its own.
async fn ask(step: &mut SmokeStep, stranger: &Master, access: &Access) -> Result<(), String> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let Ok(client) = access.node(&stranger.address, stranger.port) else { return Ok(()) };
    let Ok(mut connection) = client.get_multiplexed_async_connection_with_config(&config).await else { return Ok(()) };
    step.asked = name(stranger);
    match write(&mut connection, &step.key).await {
        Ok(()) => step.answered = step.asked.clone(),
        Err(error) => match error.redirect_node() {
            Some((node, _)) => step.answered = node.to_owned(),
            None => return Err(format!("{}: {error}", step.asked)),
        },
    }
    Ok(())
}

async fn through_the_cluster(key: &str, seeds: &[(String, u16)], access: &Access) -> Result<(), String> {
    let say = |error: RedisError| error.to_string();
    let client = access
        .cluster(seeds)
        .map_err(say)?
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE)
        .retries(2)
        .build()
        .map_err(say)?;
    let mut connection = client.get_async_connection().await.map_err(say)?;
    write(&mut connection, key).await.map_err(say)?;
    let value: Option<String> = cmd("GET").arg(key).query_async(&mut connection).await.map_err(say)?;
    if value.as_deref() != Some(key) {
        return Err(format!("wrote {key:?} and read {value:?}"));
    }
    cmd("DEL").arg(key).query_async::<()>(&mut connection).await.map_err(say)
}

/// The value is the key itself: nothing to remember, and recognisable when it is found.
async fn write(connection: &mut impl ConnectionLike, key: &str) -> Result<(), RedisError> {
    cmd("SET").arg(key).arg(key).arg("PX").arg(EXPIRE_MS).query_async(connection).await
}

fn name(master: &Master) -> String {
    render::address(&master.address, master.port.into())
}

#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;
