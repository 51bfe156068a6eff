//! A small world, all of it: at every moment of a rotation, each host has taken in either of the two generations that it
//! was told last, and each of its instances, and of its certificates, is at either of the two as well. In none of these
//! is anybody turned away.

use muster_proto::{InstanceTls, Sha256, Tls, Users, acl::Login, pki};

use super::{
    super::{
        Authority, Credentials, DEFAULT, Kind,
        rotation::{Event, Next, next},
        step::step,
    },
    drawn, id, rotating, spec,
};

/// What hosts are told in turn when events happen as soon as they may. A step is taken when all have made true what they
/// were told, so no host is further back than one of these.
fn told(kind: Kind, events: &[Event]) -> Vec<Credentials> {
    let spec = spec(Tls::Issued);
    let steady = drawn(&spec);
    let begun = match kind {
        Kind::Passwords => rotating(&spec),
        Kind::Certificates => {
            // The same authority as in `steady`, which is drawn once.
            steady.rotate_authority(id(1), Authority::generate("orders", 1_700_000_000).unwrap()).unwrap()
        }
    };
    let begun = Credentials {
        authority: if kind == Kind::Passwords { steady.authority.clone() } else { begun.authority.clone() },
        ..begun
    };
    let mut told = vec![steady, begun];
    for event in events {
        let last = told.last().unwrap();
        told.push(step(&"orders".parse().unwrap(), last, *event).unwrap().credentials);
    }
    told
}

/// Every way that a rotation can take from beginning to end.
fn ways(kind: Kind) -> Vec<Vec<Event>> {
    let mut found = Vec::new();
    let mut open = vec![(super::super::Stage::Add, Vec::new())];
    while let Some((stage, way)) = open.pop() {
        for event in [Event::Converged, Event::Finish, Event::Cancel] {
            let way = [way.as_slice(), &[event]].concat();
            match next(kind, stage, event) {
                Next::To(to) => open.push((to, way)),
                Next::Done | Next::Undone => found.push(way),
                Next::Stay | Next::TooEarly | Next::TooLate => {}
            }
        }
    }
    found
}

fn accepts(users: &Users, login: &Login) -> bool {
    let hash = Sha256::of(login.password.expose().as_bytes());
    users.users.iter().any(|user| user.name == login.user && user.passwords.contains(&hash))
}

/// Every pair of neighbouring generations, in both orders, and each with itself.
fn neighbours(told: &[Credentials]) -> impl Iterator<Item = (&Credentials, &Credentials)> {
    told.windows(2).flat_map(|pair| {
        let (older, newer) = (&pair[0], &pair[1]);
        [(older, older), (older, newer), (newer, older), (newer, newer)]
    })
}

fn each_way(check: impl Fn(&[Credentials])) {
    for kind in [Kind::Passwords, Kind::Certificates] {
        let ways = ways(kind);
        assert!(ways.len() >= 2, "to the end, and called off");
        for way in ways {
            check(&told(kind, &way));
        }
    }
}

#[test]
fn every_replica_is_accepted_by_every_possible_master() {
    let spec = spec(Tls::Issued);
    each_way(|told| {
        for (replica, master) in neighbours(told) {
            let login = replica.users(&spec).unwrap().replica;
            assert!(accepts(&master.users(&spec).unwrap(), &login), "{:?} {:?}", replica.rotation, master.rotation);
        }
    });
}

#[test]
fn every_agent_can_log_in_to_its_instance() {
    let spec = spec(Tls::Issued);
    each_way(|told| {
        for (agent, instance) in neighbours(told) {
            let logins = agent.users(&spec).unwrap().admin;
            let users = instance.users(&spec).unwrap();
            assert!(logins.iter().any(|login| accepts(&users, login)), "{:?} {:?}", agent.rotation, instance.rotation);
        }
    });
}

/// What a client was shown at a stage is accepted by every instance from then on, until the operator says that clients
/// have moved; and what it is shown at the overlap is accepted for good.
#[test]
fn what_a_client_is_shown_is_accepted() {
    let spec = spec(Tls::Issued);
    let login = |shown: &Credentials, user: &str| Login {
        user: user.to_owned(),
        password: shown.password(user).unwrap().clone(),
    };
    for way in ways(Kind::Passwords) {
        let told = told(Kind::Passwords, &way);
        let finish = way.iter().position(|event| *event == Event::Finish);
        for (at, shown) in told.iter().enumerate() {
            // The generation before may still be live somewhere.
            let (first, last) = (at.saturating_sub(1), finish.map_or(told.len() - 1, |finish| finish + 1));
            let overlaps = finish.is_some_and(|finish| at > finish);
            let until = if overlaps { told.len() - 1 } else { last };
            for instance in &told[first..=until] {
                for user in [DEFAULT, "drawn"] {
                    let accepted = accepts(&instance.users(&spec).unwrap(), &login(shown, user));
                    assert!(accepted, "{user} of {:?} at {:?}", shown.rotation, instance.rotation);
                }
            }
        }
    }
}

fn believed(tls: &InstanceTls) -> Vec<Sha256> {
    let InstanceTls::Issued { ca_pem, .. } = tls else { panic!("issued") };
    pki::from_pem(ca_pem).unwrap().iter().map(|der| Sha256::of(der)).collect()
}

/// An instance shows a certificate of the authority that signed in the generation that it has, or in the one before.
#[test]
fn every_certificate_is_believed_by_every_other_instance_and_by_clients() {
    let spec = spec(Tls::Issued);
    each_way(|told| {
        let tls: Vec<_> = told.iter().map(|one| one.tls(&spec).unwrap()).collect();
        let issuer = |at: usize| match &tls[at] {
            InstanceTls::Issued { issuer, .. } => *issuer,
            InstanceTls::Files(_) => panic!("issued"),
        };
        for newer in 1..told.len() {
            for (shows, believes) in [(newer - 1, newer - 1), (newer - 1, newer), (newer, newer - 1), (newer, newer)] {
                assert!(believed(&tls[believes]).contains(&issuer(shows)), "{shows} is not believed at {believes}");
            }
        }
        // Clients fetch what to believe at the overlap, at the latest, and then keep it.
        let Some(overlap) = told
            .iter()
            .position(|one| one.rotation.is_some_and(|rotation| rotation.stage == super::super::Stage::Overlap))
        else {
            return;
        };
        let fetched = pki::from_pem(&told[overlap].ca_pem()).unwrap();
        let fetched: Vec<_> = fetched.iter().map(|der| Sha256::of(der)).collect();
        for at in overlap..told.len() {
            assert!(fetched.contains(&issuer(at)), "a client of the overlap turns away at {at}");
        }
        // And those that have not moved are served until the operator says that they have.
        for at in 0..=overlap {
            assert!(believed(&tls[0]).contains(&issuer(at)), "an old client turns away at {at}");
        }
    });
}

/// The checks above can fail: a stage that is skipped is found.
#[test]
fn a_rotation_that_skips_a_stage_is_caught() {
    let spec = spec(Tls::Issued);
    let told = told(Kind::Passwords, &[Event::Converged, Event::Converged, Event::Finish]);
    let (steady, switched, retired) = (&told[0], &told[2], &told[4]);
    let turned_away = |from: &Credentials, to: &Credentials| {
        neighbours(&[from.clone(), to.clone()])
            .any(|(replica, master)| !accepts(&master.users(&spec).unwrap(), &replica.users(&spec).unwrap().replica))
    };
    assert!(turned_away(steady, switched), "nobody accepts the new one yet");
    assert!(turned_away(steady, retired));
    assert!(!turned_away(&told[1], switched));
}
