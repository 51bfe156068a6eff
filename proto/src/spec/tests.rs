//! Every way in which a spec is refused by itself, and that a good one is not.

use expect_test::{Expect, expect};

use super::*;

fn host(name: &str, ports: &[u32]) -> SpecHost {
    let ports = ports.iter().map(|port| crate::Port::try_from(*port).unwrap());
    SpecHost { name: name.parse().unwrap(), ports: PortSet::new(ports).unwrap() }
}

fn good() -> SpecParts {
    SpecParts {
        name: "orders".parse().unwrap(),
        replicas: 1,
        masters: Some(3),
        hosts: vec![host("a", &[7000, 7001, 7002]), host("b", &[7000, 7001, 7002])],
        settings: vec![Setting { key: "AppendOnly".into(), value: "yes".into() }],
        allow_shared_host: false,
        auth: Auth::default(),
        tls: Tls::Off,
        limits: Limits::default(),
    }
}

fn refused(spoil: impl FnOnce(&mut SpecParts)) -> SpecError {
    let mut parts = good();
    spoil(&mut parts);
    Spec::new(parts).unwrap_err()
}

fn check(spoil: impl FnOnce(&mut SpecParts), expected: Expect) {
    expected.assert_eq(&refused(spoil).to_string());
}

fn set(key: &str, value: &str) -> impl FnOnce(&mut SpecParts) {
    let setting = Setting { key: key.into(), value: value.into() };
    move |parts| parts.settings = vec![setting]
}

#[test]
fn a_good_one_is_believed_and_its_directives_are_lower_case() {
    let spec = Spec::new(good()).unwrap();
    assert_eq!(spec.instances(), 6);
    assert_eq!(spec.parts().settings[0].key, "appendonly");
}

#[test]
fn hosts_are_there_once_and_have_ports() {
    check(|parts| parts.hosts.clear(), expect!["hosts: a cluster needs at least one host"]);
    check(
        |parts| parts.hosts.push(host("a", &[7100])),
        expect!["hosts[2].name: a is listed twice; give it one entry with all its ports"],
    );
    check(|parts| parts.hosts[1] = host("b", &[]), expect!["hosts[1].ports: b has no ports"]);
}

#[test]
fn a_limit_of_memory_is_above_maxmemory() {
    let limited = |maxmemory: &str| {
        let settings = vec![Setting { key: "maxmemory".into(), value: maxmemory.into() }];
        move |parts: &mut SpecParts| {
            parts.settings = settings;
            parts.limits.memory = "1GiB".parse().ok();
        }
    };
    check(
        limited("1gb"),
        expect![
            "limits.memory: 1GiB is not above maxmemory (1gb), and the server would be killed before it evicts or refuses anything"
        ],
    );
    let mut parts = good();
    limited("900mb")(&mut parts);
    Spec::new(parts).unwrap();
}

#[test]
fn numbers_have_limits() {
    check(|parts| parts.replicas = 17, expect!["replicas: 17 is more than 16"]);
    for masters in [0, 1, 2, 1001] {
        assert_eq!(refused(|parts| parts.masters = Some(masters)), SpecError::Masters(masters));
    }
    check(
        |parts| parts.masters = Some(2),
        expect!["masters: 2 is not 3-1000; fewer than three cannot elect a successor for a dead one"],
    );
}

#[test]
fn a_setting_cannot_break_the_file() {
    for key in ["", "a b", "a\n", "a\"", "ä"] {
        assert_eq!(refused(set(key, "1")), SpecError::SettingKey { key: key.into() }, "{key:?}");
    }
    for value in ["", " ", "yes\nport 1", "a\tb", "a\0b"] {
        assert_eq!(refused(set("maxmemory", value)), SpecError::SettingValue { key: "maxmemory".into() }, "{value:?}");
    }
    check(set("a b", "1"), expect![[r#"redis.config: "a b" is no redis.conf directive: use a-z, 0-9, '-' and '.'"#]]);
    check(
        set("save", "1\n2"),
        expect!["redis.config.save: a value is one line of redis.conf, without line breaks or control characters"],
    );
}

#[test]
fn what_muster_owns_cannot_be_set_however_it_is_written() {
    for (key, why) in OWNED {
        for key in [(*key).to_owned(), key.to_ascii_uppercase()] {
            let expected = SpecError::SettingOwned { key: key.to_ascii_lowercase(), why };
            assert_eq!(refused(set(&key, "1")), expected);
        }
    }
    check(
        set("port", "1"),
        expect![
            "redis.config.port: Muster owns this setting (it follows from the spec's `ports`); take it out of the spec"
        ],
    );
}
