//! Lines as typed, and what they are read as.

use super::*;
use clap::CommandFactory as _;
use expect_test::expect;

fn parse(line: &str) -> Result<Args, String> {
    let first = |error: clap::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    Args::try_parse_from(line.split_whitespace()).map_err(first)
}

#[test]
fn clap_finds_nothing_wrong_with_it() {
    Args::command().debug_assert();
}

#[test]
fn commands_are_read() {
    let cluster = || "orders".parse::<ClusterName>().unwrap();
    let id = || "42".to_owned();
    let whole = || Which { cluster: cluster(), host: None, instance: None, dry_run: false };
    let cases = [
        ("muster hosts", Command::Hosts { facts: false }),
        ("muster plan a.toml", Command::Plan { file: "a.toml".into(), why: false }),
        ("muster plan --why a.toml", Command::Plan { file: "a.toml".into(), why: true }),
        ("muster bootstrap a.toml --yes", Command::Bootstrap { file: "a.toml".into(), yes: true }),
        ("muster status", Command::Status { cluster: None, watch: false }),
        ("muster status orders --watch", Command::Status { cluster: Some(cluster()), watch: true }),
        ("muster check orders", Command::Check { cluster: cluster() }),
        (
            "muster start orders --instance h1:7000",
            Command::Start(Start {
                which: Which { instance: "h1:7000".parse().ok(), ..whole() },
                even_if_empty: false,
                confirm: None,
                yes: false,
            }),
        ),
        (
            "muster stop orders --host h1 --yes",
            Command::Stop(Stop {
                which: Which { host: "h1".parse().ok(), ..whole() },
                consent: Consent { yes: true, confirm: None },
            }),
        ),
        (
            "muster restart orders --give-back --confirm orders",
            Command::Restart(Restart {
                which: whole(),
                give_back: true,
                consent: Consent { yes: false, confirm: Some("orders".into()) },
            }),
        ),
        ("muster agent ps h1", Command::Agent(AgentCommand::Ps { host: "h1".parse().ok() })),
        ("muster events --last 7", Command::Events { cluster: None, host: None, last: 7 }),
        (
            "muster logs orders h1:7000 -f",
            Command::Logs { cluster: cluster(), instance: "h1:7000".parse().unwrap(), lines: 100, follow: true },
        ),
        ("muster hosts --facts", Command::Hosts { facts: true }),
        ("muster smoke orders", Command::Smoke { cluster: cluster(), from: None, ca: None }),
        ("muster smoke orders --from h1", Command::Smoke { cluster: cluster(), from: "h1".parse().ok(), ca: None }),
        ("muster ops", Command::Ops { cluster: None }),
        ("muster ops orders", Command::Ops { cluster: Some(cluster()) }),
        ("muster op show 42", Command::Op(OpCommand::Show { id: id() })),
        ("muster op watch 42", Command::Op(OpCommand::Watch { id: id() })),
        ("muster op pause 42", Command::Op(OpCommand::Pause { id: id() })),
        ("muster op resume 42", Command::Op(OpCommand::Resume { id: id() })),
        ("muster op cancel 42", Command::Op(OpCommand::Cancel { id: id() })),
    ];
    for (line, expected) in cases {
        let args = parse(line).unwrap();
        assert_eq!(args.command, expected, "{line}");
        assert_eq!(args.output, Format::Text, "{line}");
    }
}

#[test]
fn global_options_stand_anywhere() {
    for line in ["muster --output json hosts", "muster hosts --output json", "muster hosts --output=json"] {
        assert_eq!(parse(line).unwrap().output, Format::Json, "{line}");
    }
    let args = parse("muster hosts --endpoint unix:/tmp/x.sock").unwrap();
    assert_eq!(args.endpoint.unwrap().to_string(), "unix:/tmp/x.sock");
    assert_eq!(parse("muster hosts").unwrap().wish(), Wish::default());
}

#[test]
fn what_cannot_be_is_refused() {
    let cases = [
        "muster nonsense",
        "muster plan",
        "muster plan a b",
        "muster status Orders",
        "muster smoke orders --from",
        "muster op show",
        "muster hosts --output yaml",
        "muster hosts --endpoint https://a",
    ];
    let said: String = cases.iter().map(|line| format!("{line}\n  {}\n", parse(line).unwrap_err())).collect();
    expect![[r#"
        muster nonsense
          error: unrecognized subcommand 'nonsense'
        muster plan
          error: the following required arguments were not provided:
        muster plan a b
          error: unexpected argument 'b' found
        muster status Orders
          error: invalid value 'Orders' for '[CLUSTER]': "Orders" is not a cluster name: 1-63 of a-z, 0-9 and '-', starting with a letter or digit
        muster smoke orders --from
          error: a value is required for '--from <HOST>' but none was supplied
        muster op show
          error: the following required arguments were not provided:
        muster hosts --output yaml
          error: invalid value 'yaml' for '--output <FORMAT>'
        muster hosts --endpoint https://a
          error: invalid value 'https://a' for '--endpoint <URL>': the port is missing, as in https://host:port
    "#]].assert_eq(&said);
}

#[test]
fn every_command_has_a_paragraph_and_examples() {
    for command in Args::command().get_subcommands() {
        let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(long.len() > 100, "{} has no paragraph", command.get_name());
        assert!(after.contains("EXAMPLES"), "{} has no examples", command.get_name());
        for line in after.lines().filter_map(|line| line.trim().strip_prefix("muster ")) {
            let line = format!("muster {}", line.split(['#', '|', '>', '<']).next().unwrap_or_default());
            assert!(parse(&line).is_ok(), "an example does not parse: {line}");
        }
    }
}

#[test]
fn commands_about_trust_are_read() {
    use crate::cli::args::trust::ShownOption;
    let ttl = |seconds| Ttl { seconds };
    let host = || "h1".parse::<HostName>().unwrap();
    let cluster = |name: &str| name.parse::<ClusterName>().unwrap();
    let create = |host, ttl, uses, approve| Command::Token(TokenCommand::Create { host, ttl, uses, approve });
    let credentials = |command| {
        let shown = ShownOption { cluster: None, user: None, only: None };
        Command::Credentials(Credentials { command: Some(command), shown })
    };
    let cases = [
        ("muster whoami", Command::Whoami),
        ("muster token create", create(None, ttl(1800), 1, false)),
        ("muster token create --host h1 --ttl 2h", create(Some(host()), ttl(7200), 1, false)),
        ("muster token create --uses 20 --approve", create(None, ttl(1800), 20, true)),
        ("muster token revoke k3", Command::Token(TokenCommand::Revoke { id: "k3".into() })),
        ("muster host approve h1", Command::Host(HostCommand::Approve { host: host() })),
        (
            "muster host revoke h1 --reason x --confirm h1",
            Command::Host(HostCommand::Revoke { host: host(), reason: "x".into(), confirm: Some("h1".into()) }),
        ),
        ("muster host rejoin-token h1", Command::Host(HostCommand::RejoinToken { host: host(), ttl: ttl(1800) })),
        (
            "muster user add a --role destroyer",
            Command::User(UserCommand::Add {
                name: "a".into(),
                role: muster_proto::AccessRole::Destroyer,
                ttl: ttl(90 * 86_400),
            }),
        ),
        (
            "muster credentials rotate orders --certificates",
            credentials(CredentialsCommand::Rotate { cluster: cluster("orders"), certificates: true }),
        ),
        ("muster credentials finish orders", credentials(CredentialsCommand::Finish { cluster: cluster("orders") })),
        (
            "muster credentials show rotate --only ca",
            credentials(CredentialsCommand::Show { cluster: cluster("rotate"), user: None, only: Some(Only::Ca) }),
        ),
        ("muster audit --last 7", Command::Audit { last: 7, verify: false }),
        ("muster audit --verify", Command::Audit { last: 50, verify: true }),
        ("muster ca retire --force", Command::Ca(CaCommand::Retire { force: true })),
        (
            "muster context add prod --certificate",
            Command::Context(ContextCommand::Add { name: "prod".parse().unwrap(), certificate: true }),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line).unwrap().command, expected, "{line}");
    }
}

#[test]
fn a_cluster_alone_is_shown_whatever_it_is_called() {
    let meant = |line: &str| match parse(line).unwrap().command {
        Command::Credentials(credentials) => credentials.meant().unwrap(),
        other => panic!("{other:?}"),
    };
    let show = |cluster: &str, user: Option<&str>| CredentialsCommand::Show {
        cluster: cluster.parse().unwrap(),
        user: user.map(str::to_owned),
        only: None,
    };
    assert_eq!(meant("muster credentials orders"), show("orders", None));
    assert_eq!(meant("muster credentials orders --user app"), show("orders", Some("app")));
    assert_eq!(meant("muster credentials --user app orders"), show("orders", Some("app")));
    assert_eq!(meant("muster credentials rotat"), show("rotat", None));
    assert_eq!(meant("muster credentials show rotate --user app"), show("rotate", Some("app")));
    let both = match parse("muster credentials --user app rotate orders").unwrap().command {
        Command::Credentials(credentials) => credentials.meant(),
        other => panic!("{other:?}"),
    };
    assert_eq!(both, None);
    for line in ["muster credentials --output json orders", "muster credentials --output json rotate orders"] {
        assert_eq!(parse(line).unwrap().output, Format::Json, "{line}");
    }
}

#[test]
fn what_cannot_be_about_trust_is_refused() {
    let cases = [
        "muster token create --ttl 0m",
        "muster token create --ttl 30",
        "muster token create --uses 0",
        "muster user add a --role root",
        "muster user add a",
        "muster host revoke",
        "muster credentials",
        "muster credentials rotate",
        "muster audit --last 0",
        "muster audit --last 3 --verify",
        "muster context add Prod",
    ];
    let said: String = cases.iter().map(|line| format!("{line}\n  {}\n", parse(line).unwrap_err())).collect();
    expect![[r#"
        muster token create --ttl 0m
          error: invalid value '0m' for '--ttl <TIME>': use a number and one of s, m, h and d: 30m, 12h, 90d
        muster token create --ttl 30
          error: invalid value '30' for '--ttl <TIME>': use a number and one of s, m, h and d: 30m, 12h, 90d
        muster token create --uses 0
          error: invalid value '0' for '--uses <N>': 0 is not in 1..=1000
        muster user add a --role root
          error: invalid value 'root' for '--role <ROLE>': "root" is no role; there are viewer, operator, destroyer and admin, each with all that the ones before it may
        muster user add a
          error: the following required arguments were not provided:
        muster host revoke
          error: the following required arguments were not provided:
        muster credentials
          error: the following required arguments were not provided:
        muster credentials rotate
          error: the following required arguments were not provided:
        muster audit --last 0
          error: invalid value '0' for '--last <N>': 0 is not in 1..=4294967295
        muster audit --last 3 --verify
          error: the argument '--last <N>' cannot be used with '--verify'
        muster context add Prod
          error: invalid value 'Prod' for '<NAME>': "Prod" is no name of a context: 1-63 of a-z, 0-9, '.', '_' and '-'
    "#]].assert_eq(&said);
}

#[test]
fn commands_about_rebuilding_are_read() {
    let cluster = || "orders".parse::<ClusterName>().unwrap();
    let rebuild = || Rebuild {
        cluster: cluster(),
        file: None,
        fence_missing: vec![],
        undo: false,
        even_if_serving: false,
        dry_run: false,
        confirm: None,
    };
    let id = "6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f";
    let list = |cluster| Command::Trash(Trash { command: None, cluster });
    let cases = [
        ("muster rebuild orders".to_owned(), Command::Rebuild(rebuild())),
        (
            "muster rebuild orders --undo --dry-run".into(),
            Command::Rebuild(Rebuild { undo: true, dry_run: true, ..rebuild() }),
        ),
        (
            "muster rebuild orders --file a.toml --fence-missing h1 --fence-missing h2 --even-if-serving --confirm x"
                .into(),
            Command::Rebuild(Rebuild {
                file: Some("a.toml".into()),
                fence_missing: ["h1", "h2"].map(|host| host.parse().unwrap()).into(),
                even_if_serving: true,
                confirm: Some("x".into()),
                ..rebuild()
            }),
        ),
        ("muster trash".into(), list(None)),
        ("muster trash orders".into(), list(Some(cluster()))),
        (
            format!("muster trash purge --cluster-id {id} --incarnation 1 --host h1 --confirm orders"),
            Command::Trash(Trash {
                command: Some(TrashCommand::Purge(Purge {
                    cluster_id: id.parse().unwrap(),
                    incarnation: Some(1),
                    host: "h1".parse().ok(),
                    confirm: Some("orders".into()),
                })),
                cluster: None,
            }),
        ),
        ("muster protect orders".into(), Command::Protect { cluster: cluster() }),
        ("muster unprotect orders".into(), Command::Unprotect { cluster: cluster() }),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(&line).unwrap().command, expected, "{line}");
    }
    let meant = |line: &str| match parse(line).unwrap().command {
        Command::Trash(trash) => trash.meant(),
        other => panic!("{other:?}"),
    };
    let named = |name: &str| Some(TrashCommand::List { cluster: name.parse().ok() });
    assert_eq!(meant("muster trash"), Some(TrashCommand::List { cluster: None }));
    assert_eq!(meant("muster trash orders"), named("orders"));
    assert_eq!(meant("muster trash list purge"), named("purge"));
    assert_eq!(meant("muster trash orders list"), None);
    assert_eq!(parse("muster trash --output json orders").unwrap().output, Format::Json);
}

#[test]
fn what_cannot_be_about_rebuilding_is_refused() {
    let cases = [
        "muster rebuild",
        "muster rebuild orders --undo --file a.toml",
        "muster rebuild orders --undo --fence-missing h1",
        "muster rebuild orders --dry-run --confirm orders",
        "muster trash purge",
        "muster trash purge --cluster-id orders",
        "muster trash purge --cluster-id 6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f --incarnation 0",
        "muster protect",
    ];
    let said: String = cases.iter().map(|line| format!("{line}\n  {}\n", parse(line).unwrap_err())).collect();
    expect![[r#"
        muster rebuild
          error: the following required arguments were not provided:
        muster rebuild orders --undo --file a.toml
          error: the argument '--undo' cannot be used with '--file <SPEC>'
        muster rebuild orders --undo --fence-missing h1
          error: the argument '--undo' cannot be used with '--fence-missing <HOST>'
        muster rebuild orders --dry-run --confirm orders
          error: the argument '--dry-run' cannot be used with '--confirm <CLUSTER>'
        muster trash purge
          error: the following required arguments were not provided:
        muster trash purge --cluster-id orders
          error: invalid value 'orders' for '--cluster-id <ID>': invalid character: found `o` at 0
        muster trash purge --cluster-id 6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f --incarnation 0
          error: invalid value '0' for '--incarnation <N>': 0 is not in 1..18446744073709551615
        muster protect
          error: the following required arguments were not provided:
    "#]]
    .assert_eq(&said);
}

/// Whoever has read it can say what becomes of his data.
#[test]
fn the_help_of_rebuild_says_what_becomes_of_the_data() {
    let help = Args::command().find_subcommand_mut("rebuild").unwrap().render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "The rebuild copies nothing and deletes nothing",
        "<base_dir>/.trash/",
        "(168, 7 days; 0 is never)",
        "begins without a key",
        "no data: it ends with the server",
        "shares the disk with the new cluster",
        "the point of no return",
        "muster op cancel ID",
        "muster op pause|resume ID",
        "node timeout has passed",
        "with their passwords",
        "CONFIG SET, ACL SETUSER",
        "twice is where you were",
        "TRASH_INCOMPLETE",
        "EXIT CODES",
    ] {
        assert!(help.contains(said), "{said} is not said: {help}");
    }
    // The deepest fields of the document, too.
    let json = help.split("JSON: ").nth(1).unwrap_or_default();
    for field in ["supersedes", "even_if_serving", "writes_millihertz", "last_save_unix_ms", "keeps", "aside_unix_ms"] {
        assert!(json.contains(field), "{field} is not said: {json}");
    }
}
