//! `muster protect` and `muster unprotect`: what is so now.

use serde::Serialize;

/// Whether a cluster may be rebuilt, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct ProtectionJson {
    /// Whose.
    pub cluster: String,
    /// It may not be rebuilt.
    pub protected: bool,
    /// It was so already.
    pub already: bool,
}

/// A line.
pub fn text(shown: &ProtectionJson) -> String {
    let ProtectionJson { cluster, protected, already } = shown;
    let what = match (protected, already) {
        (true, false) => "is protected",
        (true, true) => "was protected already, nothing was changed",
        (false, false) => "is not protected any more",
        (false, true) => "was not protected, nothing was changed",
    };
    let then = if *protected { "to take that back: muster unprotect" } else { "to protect it: muster protect" };
    format!("cluster {cluster} {what}; {then} {cluster}\n")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_so_now_comes_with_the_way_back() {
        let case = |protected, already| text(&ProtectionJson { cluster: "orders".into(), protected, already });
        expect![[r#"
            cluster orders is protected; to take that back: muster unprotect orders
            cluster orders was protected already, nothing was changed; to take that back: muster unprotect orders
            cluster orders is not protected any more; to protect it: muster protect orders
            cluster orders was not protected, nothing was changed; to protect it: muster protect orders
        "#]]
        .assert_eq(&[case(true, false), case(true, true), case(false, false), case(false, true)].concat());
    }
}
