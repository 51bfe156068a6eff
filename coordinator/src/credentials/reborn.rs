//! What a cluster keeps of its secrets when it is rebuilt: what clients have, and whom they believe. What replicas and
//! agents log in with is drawn anew, so that nothing of an ended life is let in by the next.

use std::collections::BTreeMap;

use muster_proto::{Incarnation, Spec};

use super::{Authority, Credentials, History, Password, Passwords};

impl Credentials {
    /// For the next life. `authority` is the one that a cluster without any of its own gets, where its spec wants
    /// certificates issued; `random` draws what nobody has yet.
    pub fn reborn<E>(
        before: Option<&Self>,
        spec: &Spec,
        incarnation: Incarnation,
        authority: Option<Authority>,
        random: impl FnMut() -> Result<[u8; 32], E>,
    ) -> Result<Option<Self>, E> {
        let Some(mut next) = Self::draw(spec, incarnation, authority, random)? else { return Ok(None) };
        let Some(before) = before else { return Ok(Some(next)) };
        let issued = matches!(spec.parts().tls, muster_proto::Tls::Issued);
        next.authority = before.authority.clone().filter(|_| issued).or(next.authority);
        if let (Some(next), Some(before)) = (&mut next.passwords, &before.passwords) {
            keep(next, before);
        }
        Ok(Some(next))
    }

    /// For a life that comes back: what clients have, and whom they believe, is what the present life says, which they
    /// may have been given since; the rest is its own.
    pub fn returning(back: Option<&Self>, now: Option<&Self>) -> Option<Self> {
        let mut back = back?.clone();
        let Some(now) = now else { return Some(back) };
        if let (Some(back), Some(now)) = (&mut back.passwords, &now.passwords) {
            keep(back, now);
        }
        if back.authority.is_some() && now.authority.is_some() {
            back.authority.clone_from(&now.authority);
        }
        Some(Self { rotation: None, ..back })
    }
}

fn keep(next: &mut Passwords, before: &Passwords) {
    next.default = before.default.clone();
    let known = |name: &String, drawn: &History<Password>| before.users.get(name).unwrap_or(drawn).clone();
    let users: BTreeMap<_, _> = next.users.iter().map(|(name, drawn)| (name.clone(), known(name, drawn))).collect();
    next.users = users;
}

#[cfg(test)]
mod tests {
    use muster_proto::Tls;

    use super::*;
    use crate::credentials::tests::spec;

    #[test]
    fn clients_keep_what_they_have_and_everybody_else_gets_it_anew() {
        let mut drawn = 0;
        let mut random = || {
            drawn += 1;
            Ok::<_, ()>([drawn; 32])
        };
        let spec = spec(Tls::Off);
        let before = Credentials::draw(&spec, Incarnation(1), None, &mut random).unwrap().unwrap();
        let next = Credentials::reborn(Some(&before), &spec, Incarnation(2), None, &mut random).unwrap().unwrap();
        let before_all = before.clone();
        let fresh = History::new(Password::of(&random().unwrap()));
        let (old, new) = (before.passwords.unwrap(), next.passwords.unwrap());
        assert_eq!((&old.default, &old.users), (&new.default, &new.users));
        assert_ne!(old.admin, new.admin);
        assert_ne!(old.replica, new.replica);
        assert_eq!(new.incarnation, Incarnation(2));
        let rotated =
            Credentials { passwords: Some(Passwords { default: fresh, ..new }), authority: None, rotation: None };
        let back = Credentials::returning(Some(&before_all), Some(&rotated)).unwrap();
        let (back, rotated) = (back.passwords.unwrap(), rotated.passwords.unwrap());
        assert_eq!(back.default, rotated.default, "what was withdrawn from clients does not come back");
        assert_eq!((&back.admin, back.incarnation), (&old.admin, Incarnation(1)));
    }
}
