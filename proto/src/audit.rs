//! The chain of the audit: each entry holds the hash of the one before, so that nothing can be taken out or changed
//! without everything after it being made anew.

use crate::{Sha256, wire};

/// What an entry's hash is over: every field but the hash itself, each text behind its length.
pub fn entry_hash(entry: &wire::AuditEntry) -> Sha256 {
    let mut bytes = b"muster audit 1".to_vec();
    bytes.extend(entry.seq.to_be_bytes());
    bytes.extend(entry.unix_ms.to_be_bytes());
    for text in [&entry.caller, &entry.from, &entry.action, &entry.detail] {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend(&entry.previous);
    Sha256::of(&bytes)
}

/// Checks a run of entries against each other, and against the hash of the one before the first. The last hash is
/// returned; what is wrong otherwise.
pub fn verify(previous: Sha256, entries: &[wire::AuditEntry]) -> Result<Sha256, String> {
    let mut hash = previous;
    for (seq, entry) in (entries.first().map_or(0, |first| first.seq)..).zip(entries) {
        if entry.seq != seq {
            return Err(format!("entry {seq} is missing; after it comes {}", entry.seq));
        }
        if entry.previous != hash.0 {
            return Err(format!(
                "entry {seq} does not follow from the one before it: something was changed or taken out"
            ));
        }
        hash = entry_hash(entry);
        if entry.sha256 != hash.0 {
            return Err(format!("entry {seq} was changed: it does not have its own hash"));
        }
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<wire::AuditEntry> {
        let mut previous = Sha256([0; 32]);
        let entry = |seq| {
            let action = format!("did {seq}");
            let mut entry =
                wire::AuditEntry { seq, action, previous: previous.0.to_vec(), ..wire::AuditEntry::default() };
            previous = entry_hash(&entry);
            entry.sha256 = previous.0.to_vec();
            entry
        };
        (1..=4).map(entry).collect()
    }

    #[test]
    fn a_chain_holds_until_anything_is_changed() {
        let zero = Sha256([0; 32]);
        assert!(verify(zero, &chain()).is_ok());
        assert_eq!(verify(zero, &[]), Ok(zero));
        let whole = chain();
        let middle = verify(zero, &whole[..2]).unwrap();
        assert!(verify(middle, &whole[2..]).is_ok());
        let spoil = |how: fn(&mut Vec<wire::AuditEntry>)| {
            let mut entries = chain();
            how(&mut entries);
            verify(zero, &entries).unwrap_err()
        };
        assert!(spoil(|entries| entries[2].detail = "else".into()).contains("entry 3 was changed"));
        assert!(spoil(|entries| drop(entries.remove(1))).contains("entry 2 is missing"));
        assert!(spoil(|entries| drop(entries.remove(0))).contains("entry 2 does not follow"));
        assert!(spoil(|entries| entries[3].previous = vec![0; 32]).contains("entry 4 does not follow"));
    }
}
