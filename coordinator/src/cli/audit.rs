//! `muster audit`: what was done, by whom, and the proof that nothing was taken out.

use std::{collections::VecDeque, slice};

use muster_proto::{
    Sha256, audit,
    wire::{AuditEntry, ListAuditRequest},
};

use super::{
    Context, Verdict,
    args::Format,
    connect::{THOROUGH, Trust, call},
    error::{CliError, Message},
};
use crate::render::audit::{EntriesJson, VerdictJson, holds, text};

/// Entries of an answer; some megabytes at most.
const PAGE: u32 = 5_000;

/// The newest, oldest first. They are numbered without gaps, but only by walking there is the last one known.
async fn newest(trust: &mut Trust, most: usize) -> Result<Vec<AuditEntry>, CliError> {
    let mut kept = VecDeque::new();
    let mut after = 0;
    loop {
        let entries = page(trust, after).await?;
        let Some(last) = entries.last() else { return Ok(kept.into()) };
        after = last.seq;
        kept.extend(entries);
        kept.drain(..kept.len().saturating_sub(most));
    }
}

pub async fn list(context: &mut Context, last: u32) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    let entries = newest(&mut trust, usize::try_from(last).unwrap_or(usize::MAX)).await?;
    context.show(|| text(&entries), || EntriesJson::from(&*entries));
    Ok(Verdict::Done)
}

/// Walks the whole chain.
pub async fn verify(context: &mut Context) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    let (mut seq, mut hash) = (0, Sha256([0; 32]));
    let broken = 'pages: loop {
        let entries = page(&mut trust, seq).await?;
        if entries.is_empty() {
            break None;
        }
        for entry in &entries {
            if entry.seq != seq + 1 {
                break 'pages Some(format!("entry {} is missing; after it comes {}", seq + 1, entry.seq));
            }
            match audit::verify(hash, slice::from_ref(entry)) {
                Ok(next) => (seq, hash) = (entry.seq, next),
                Err(broken) => break 'pages Some(broken),
            }
        }
    };
    match (context.format, broken) {
        (Format::Json, broken) => {
            let verdict = Verdict::of(broken.is_none());
            context.show(String::new, || VerdictJson::new(seq, hash, broken));
            Ok(verdict)
        }
        (Format::Text, None) => {
            context.console.data(&holds(seq, hash));
            Ok(Verdict::Done)
        }
        (Format::Text, Some(broken)) => Err(CliError::Broken(Message(broken))),
    }
}

async fn page(trust: &mut Trust, after_seq: u64) -> Result<Vec<AuditEntry>, CliError> {
    let request = ListAuditRequest { after_seq, most: PAGE };
    call("reading the audit", THOROUGH, trust.list_audit(request)).await.map(|answer| answer.entries)
}
