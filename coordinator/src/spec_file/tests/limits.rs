//! `[limits]`, right and wrong.

use super::*;

const HEAD: &str = "name = \"orders\"\nhosts = [{ name = \"a\", ports = [\"7000-7005\"] }]\n";

fn limits(lines: &str) -> Result<(String, String), Wrong> {
    let limits = parse(&format!("{HEAD}{lines}"))?.parts().limits;
    let said = |limit: Option<String>| limit.unwrap_or_else(|| "none".into());
    Ok((said(limits.memory.map(|it| it.to_string())), said(limits.cpus.map(|it| it.to_string()))))
}

#[test]
fn each_may_be_there_or_not() {
    for (lines, memory, cpus) in [
        ("", "none", "none"),
        ("[limits]\n", "none", "none"),
        ("[limits]\nmemory = \"4GiB\"\n", "4GiB", "none"),
        ("[limits]\ncpus = 2\n", "none", "2"),
        ("[limits]\nmemory = \"512 MiB\"\ncpus = 0.5\n", "512MiB", "0.5"),
    ] {
        assert_eq!(limits(lines), Ok((memory.into(), cpus.into())), "{lines}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (lines, said, cured) in [
        (
            "[limits]\nmemory = \"4GB\"\n",
            "line 4: limits.memory: \"4GB\" is not an amount of memory like \"4GiB\": a number and KiB, MiB, GiB or TiB",
            "write memory = \"4GiB\"",
        ),
        ("[limits]\nmemory = \"1MiB\"\n", "line 4: limits.memory: 1MiB is not 16MiB-64TiB", "write memory = \"4GiB\""),
        ("[limits]\ncpus = 0\n", "line 4: limits.cpus: 0 is not 0.05-1024 processors", "write cpus = 1.5"),
        ("[limits]\ncpus = \"all\"\n", "line 4: limits.cpus: a string is no number of processors", "write cpus = 1.5"),
        ("[limits]\nmemor = \"4GiB\"\n", "line 4: memor: unknown key", "did you mean `memory`?"),
        (
            "[limits]\ncpus = 1\nmemory = \"1GiB\"\n[redis.config]\nmaxmemory = \"2gb\"\n",
            "line 5: limits.memory: 1GiB is not above maxmemory (2gb), and the server would be killed before it evicts or refuses anything",
            "leave room for replication buffers and background saves: half as much again as maxmemory",
        ),
    ] {
        let wrong = limits(lines).unwrap_err();
        assert_eq!((wrong.to_string().as_str(), wrong.cure.as_deref().unwrap_or("")), (said, cured), "{lines}");
    }
}
