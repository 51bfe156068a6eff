//! Lets a server judge the operator's users and rules without serving anybody.
//!
//! In redis.conf a server takes commands and categories that it does not know; in an ACL file it does not. So it is
//! given one that ends in a rule no server knows: it judges every line, names all that it does not take, and stops
//! (`ACLLoadFromFile`, acl.c, since 6.0). It listens on a socket in a directory of its own, for nobody: one that
//! listens nowhere stops before it looks.

use std::path::Path;

use muster_proto::{Setting, acl::RedisUser, printable};

/// The rule that must be refused.
const SENTINEL: &str = "+@muster-end-of-acl";
/// Before its list of what is wrong with the file.
const ERRORS: &str = "ACL errors: ";

/// The conf to feed to `redis-server -`: for a directory of its own, which holds the ACL file. Modules bring commands
/// and categories of theirs.
pub fn acl_probe(settings: &[Setting], dir: &Path) -> String {
    let dir = dir.display();
    let modules = settings.iter().filter(|setting| setting.key.eq_ignore_ascii_case("loadmodule"));
    let modules: String = modules.map(|setting| format!("loadmodule {}\n", setting.value)).collect();
    format!(
        "port 0\nunixsocket {dir}/probe.sock\ndir {dir}\nsave \"\"\nlogfile \"\"\npidfile \"\"\ndaemonize no\n\
         supervised no\nsyslog-enabled no\n{modules}aclfile {dir}/users.acl\n"
    )
}

/// The ACL file, with the line that must be refused at its end.
pub fn acl_probe_file(users: &[RedisUser]) -> String {
    let line = |user: &RedisUser| format!("user {} on {}\n", user.name, user.rules.as_str());
    users.iter().map(line).chain([format!("user muster-end on {SENTINEL}\n")]).collect()
}

/// What the server said: nothing if it took every user, else its own words, with whom they are about.
pub fn acl_verdict(output: &str, users: &[RedisUser]) -> Result<(), String> {
    let Some((_, errors)) = output.split_once(ERRORS) else {
        let last = output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("the server said nothing");
        return Err(printable(last));
    };
    let errors = errors.split(". WARNING: ").next().unwrap_or(errors);
    let mut judged = false;
    let mut wrong = Vec::new();
    for error in errors.split("users.acl:").skip(1) {
        let (number, words) = error.split_once(": ").unwrap_or(("", error));
        if words.contains(SENTINEL) {
            judged = true;
            continue;
        }
        let nth = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let name = nth.and_then(|nth| users.get(nth)).map_or("?", |user| user.name.as_str());
        // Behind the words comes the path of the next line.
        let words = words.rsplit_once(". ").map_or(words, |(words, _)| words).trim_end_matches('.');
        wrong.push(format!("user {name}: {}", printable(words)));
    }
    match (judged, wrong.is_empty()) {
        (_, false) => Err(wrong.join("; ")),
        (true, true) => Ok(()),
        (false, true) => Err(printable(errors.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Vec<RedisUser> {
        let user = |name: &str, rules: &str| RedisUser {
            name: name.into(),
            rules: rules.parse().unwrap(),
            passwords: Vec::new(),
        };
        vec![user("default", "~* +@all"), user("reporting", "~r:* +@nosuch")]
    }

    #[test]
    fn only_a_refusal_of_the_last_line_alone_is_a_yes() {
        let said = |errors: &str| {
            format!(
                "1:M 25 Nov 2026 18:06:17.490 # Aborting Redis startup because of ACL errors: {errors} WARNING: ACL \
                 errors detected, no change to the previously active ACL rules was performed\n"
            )
        };
        let why = "Unknown command or category name in ACL";
        let end = format!("/b/users.acl:3: Error in applying operation '{SENTINEL}': {why}.");
        assert_eq!(acl_verdict(&said(&end), &users()), Ok(()));
        let wrong = format!("/b/users.acl:2: Error in applying operation '+@nosuch': {why}. {end}");
        assert_eq!(
            acl_verdict(&said(&wrong), &users()),
            Err(format!("user reporting: Error in applying operation '+@nosuch': {why}"))
        );
        assert_eq!(acl_verdict("Killed\n", &users()), Err("Killed".into()));
        assert_eq!(acl_verdict("", &users()), Err("the server said nothing".into()));
        let other = acl_verdict(&said("cannot open it."), &users());
        assert!(other.is_err(), "{other:?}");
    }

    #[test]
    fn modules_are_loaded_and_nothing_else_of_the_settings() {
        let setting = |key: &str, value: &str| Setting { key: key.into(), value: value.into() };
        let conf = acl_probe(&[setting("loadmodule", "/x.so a"), setting("appendonly", "yes")], Path::new("/b"));
        assert!(conf.ends_with("loadmodule /x.so a\naclfile /b/users.acl\n") && !conf.contains("appendonly"), "{conf}");
        assert!(
            acl_probe_file(&users())
                .ends_with("user reporting on ~r:* +@nosuch\nuser muster-end on +@muster-end-of-acl\n")
        );
    }
}
