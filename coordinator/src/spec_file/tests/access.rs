//! Who may log in, and what is spoken: as written, and every way of getting it wrong.

use std::path::Path;

use muster_proto::{Auth, Tls, acl::Acl};

use super::super::*;

const HEAD: &str = "name = \"a\"\nhosts = [{ name = \"h\", ports = [7000] }]\n";

fn good(lines: &str) -> (Auth, Tls) {
    let spec = parse(&format!("{HEAD}{lines}")).unwrap();
    (spec.parts().auth.clone(), spec.parts().tls.clone())
}

#[test]
fn open_must_be_asked_for() {
    assert_eq!(good(""), (Auth::Passwords(Acl::default()), Tls::Off));
    assert_eq!(good("auth = \"password\"\n").0, Auth::Passwords(Acl::default()));
    assert_eq!(good("auth = \"none\"\n").0, Auth::None);
}

#[test]
fn users_are_taken_in_their_order() {
    let hash = "ab".repeat(32);
    let lines = format!(
        "[acl]\ndefault = \"~*  +@read\"\n[[acl.users]]\nname = \"z\"\nrules = \"~z:* +@all\"\n\
         [[acl.users]]\nname = \"b\"\nrules = \"+ping\"\npassword_sha256 = [\"{hash}\"]\n"
    );
    let (Auth::Passwords(acl), _) = good(&lines) else { panic!("passwords") };
    assert_eq!(acl.default_rules.unwrap().as_str(), "~* +@read");
    let users = acl.users.iter().map(|user| (user.name.as_str(), user.rules.as_str(), user.passwords.len()));
    assert_eq!(users.collect::<Vec<_>>(), [("z", "~z:* +@all", 0), ("b", "+ping", 1)]);
    assert_eq!(acl.users[1].passwords[0].to_string(), hash);
    assert_eq!(good("[acl]\n").0, Auth::Passwords(Acl::default()));
}

#[test]
fn tls_is_a_switch_or_the_operators_own_files() {
    assert_eq!(good("tls = false\n").1, Tls::Off);
    assert_eq!(good("tls = true\n").1, Tls::Issued);
    let Tls::Files(files) = good("[tls]\ncert_file = \"/c\"\nkey_file = \"/k\"\nca_file = \"/a\"\n").1 else {
        panic!("files")
    };
    assert_eq!([&files.cert, &files.key, &files.ca], [Path::new("/c"), Path::new("/k"), Path::new("/a")]);
}

#[test]
fn what_is_wrong_is_named_with_line_key_and_cure() {
    let user = "[[acl.users]]\nname = \"b\"\nrules = \"+ping\"\n";
    let cases = [
        (
            "auth = \"tls\"\n".to_owned(),
            "line 3: auth: \"tls\" is neither \"password\" nor \"none\"",
            "delete the line; passwords are the default",
        ),
        ("auth = true\n".to_owned(), "line 3: auth: invalid type: boolean `true`, expected a string", ""),
        (
            "auth = \"none\"\n\n[acl]\ndefault = \"+ping\"\n".to_owned(),
            "line 5: acl: stands beside auth = \"none\", with which nobody logs in and everybody may everything",
            "delete [acl] with its users, or delete auth = \"none\"",
        ),
        (
            "[acl]\ndefault = \"on +ping\"\n".to_owned(),
            "line 4: acl.default: \"on +ping\" are no ACL rules: \"on\" is not taken here; use rules like \"~app:* +@read\" (passwords and on/off are Muster's)",
            "",
        ),
        ("[acl]\ndefalt = \"\"\n".to_owned(), "line 4: defalt: unknown key", "did you mean `default`?"),
        (
            user.replace("\"b\"", "\"muster-admin\""),
            "line 4: acl.users[0].name: \"muster-admin\" is no user name: 1-63 of a-z, 0-9, '.', '_' and '-', not \"default\", not beginning with \"muster\"",
            "",
        ),
        (
            user.replace("+ping", ">hunter2"),
            "line 5: acl.users[0].rules: \">hunter2\" are no ACL rules: \">hunter2\" is not taken here; use rules like \"~app:* +@read\" (passwords and on/off are Muster's)",
            "",
        ),
        (user.replace("rules", "rule"), "line 5: rule: unknown key", "did you mean `rules`?"),
        ("[[acl.users]]\nname = \"b\"\n".to_owned(), "line 3: rules: missing", "add a line rules = ..."),
        (
            format!("{user}password_sha256 = [\n  \"{}\",\n  \"ab\",\n]\n", "ab".repeat(32)),
            "line 8: acl.users[0].password_sha256: \"ab\" is not 64 lower-case hex digits",
            "printf %s \"$PASSWORD\" | sha256sum prints it; or leave it out, and Muster draws one",
        ),
        (
            format!("{user}{user}"),
            "line 7: acl.users[1].name: b is listed twice",
            "keep one [[acl.users]] entry for b; one user may have several passwords",
        ),
        (
            "tls = \"yes\"\n".to_owned(),
            "line 3: tls: invalid type: string \"yes\", expected true, false, or a table with cert_file, key_file and ca_file",
            "",
        ),
        (
            "[tls]\ncert_file = \"/c\"\nkey_fil = \"/k\"\nca_file = \"/a\"\n".to_owned(),
            "line 5: key_fil: unknown key",
            "did you mean `key_file`?",
        ),
        (
            "[tls]\ncert_file = \"/c\"\nkey_file = \"/k\"\n".to_owned(),
            "line 3: ca_file: missing",
            "add a line ca_file = ...",
        ),
        (
            "[tls]\ncert_file = \"/c\"\nkey_file = \"k\"\nca_file = \"/a\"\n".to_owned(),
            "line 5: tls.key_file: \"k\" is not an absolute path",
            "write key_file as a path from the root: \"/etc/redis/tls/...\"",
        ),
    ];
    for (lines, said, cured) in cases {
        let wrong = parse(&format!("{HEAD}{lines}")).unwrap_err();
        assert_eq!((wrong.to_string().as_str(), wrong.cure.as_deref().unwrap_or("")), (said, cured), "{lines}");
    }
}
