//! `muster audit`: what was done, by whom, and the proof that nothing was taken out.

use std::slice;

use muster_proto::{
    Sha256, audit,
    failure::Reason,
    wire::{ListAuditRequest, ListAuditResponse},
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

pub async fn list(context: &mut Context, last: u32) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    // They are numbered without gaps, so that only the last ones are asked for.
    let mut after = page(&mut trust, u64::MAX).await?.last_seq.saturating_sub(last.into());
    let mut entries = Vec::new();
    loop {
        let page = page(&mut trust, after).await?.entries;
        let Some(newest) = page.last() else { break };
        after = newest.seq;
        entries.extend(page);
    }
    context.show(|| text(&entries), || EntriesJson::from(&*entries));
    Ok(Verdict::Done)
}

/// Walks the whole chain, up to where the coordinator has sealed its end.
pub async fn verify(context: &mut Context) -> Result<Verdict, CliError> {
    let mut trust = context.trust().await?;
    let (mut seq, mut hash) = (0, Sha256([0; 32]));
    let broken = 'pages: loop {
        let page = match page(&mut trust, seq).await {
            Ok(page) => page,
            Err(CliError::Refused { source, .. }) if source.is(Reason::StoreDamaged) => break Some(source.message),
            Err(error) => return Err(error),
        };
        if page.entries.is_empty() {
            break (page.last_seq != seq || page.last_sha256 != hash.0)
                .then(|| format!("entries are cut off after {seq}: the last one that was made is {}", page.last_seq));
        }
        for entry in &page.entries {
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

async fn page(trust: &mut Trust, after_seq: u64) -> Result<ListAuditResponse, CliError> {
    let request = ListAuditRequest { after_seq, most: PAGE };
    call("reading the audit", THOROUGH, trust.list_audit(request)).await
}
