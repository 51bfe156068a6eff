//! Which coordinator a command speaks to, and as whom: what was typed, what the environment says, what is kept.

use std::path::PathBuf;

use super::{
    connect::Login,
    contexts::{Access, ContextName, Contexts, ContextsError, Kept, Store},
    endpoint::Endpoint,
    help,
};

/// What was asked for, on the command line or by the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// `--endpoint` or MUSTER_ENDPOINT.
    pub endpoint: Option<Endpoint>,
    /// `--context` or MUSTER_CONTEXT.
    pub context: Option<ContextName>,
    /// `--config` or MUSTER_CONFIG.
    pub config: Option<PathBuf>,
}

/// A coordinator, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whom to believe there, and who we are; nothing on this host.
    pub login: Option<Login>,
    /// The context that says so.
    pub context: Option<ContextName>,
    /// A context that was asked for and counts less than the endpoint that was.
    pub passed_over: Option<ContextName>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Over TLS somebody must be believed.
    #[error("no context is for {0}: whom to believe there, and who you are, is not known")]
    Stranger(Endpoint),
    /// No such context.
    #[error("there is no context {name}; there {}", listed(known))]
    Unknown {
        /// Asked for.
        name: ContextName,
        /// Those that there are.
        known: Vec<ContextName>,
    },
    /// The file.
    #[error(transparent)]
    Contexts(#[from] ContextsError),
}

fn listed(known: &[ContextName]) -> String {
    let names: Vec<_> = known.iter().map(ToString::to_string).collect();
    if names.is_empty() { "are none yet".to_owned() } else { format!("are: {}", names.join(", ")) }
}

impl Wish {
    /// Where contexts are kept.
    pub fn store(&self) -> Result<Store, ContextsError> {
        Store::find(self.config.as_deref(), |name| std::env::var_os(name))
    }

    /// Reads what is kept, if that matters, and chooses.
    pub fn resolve(&self) -> Result<Target, TargetError> {
        match (&self.endpoint, &self.context) {
            // On this host nothing is needed, so that a damaged file never stands in the way.
            (Some(endpoint @ (Endpoint::Unix(_) | Endpoint::Http(_))), None) => Ok(plain(endpoint.clone())),
            (None, None) => match self.store() {
                Ok(store) => self.choose(&store.read()?),
                // A daemon's environment may have no home; the socket needs none.
                Err(ContextsError::Nowhere) => self.choose(&Contexts::default()),
                Err(error) => Err(error.into()),
            },
            _ => self.choose(&self.store()?.read()?),
        }
    }

    /// The endpoint, then the context, then the current context, then the socket of this host. Each may come from the
    /// command line or the environment; clap has put the command line first.
    fn choose(&self, contexts: &Contexts) -> Result<Target, TargetError> {
        let named = |name: &ContextName| {
            let unknown =
                || TargetError::Unknown { name: name.clone(), known: contexts.kept.keys().cloned().collect() };
            contexts.kept.get(name).ok_or_else(unknown).map(|kept| of(name, kept))
        };
        let wanted = self.context.as_ref().map(named).transpose()?;
        let Some(endpoint) = &self.endpoint else {
            let current = || contexts.current.as_ref().map(named).transpose();
            let target = match wanted {
                Some(wanted) => Some(wanted),
                None => current()?,
            };
            return Ok(target.unwrap_or_else(|| plain(default_endpoint())));
        };
        if let Some(wanted) = wanted.clone().filter(|wanted| wanted.endpoint == *endpoint) {
            return Ok(wanted);
        }
        let passed_over = wanted.and_then(|wanted| wanted.context);
        if !matches!(endpoint, Endpoint::Https { .. }) {
            return Ok(Target { passed_over, ..plain(endpoint.clone()) });
        }
        // Of several contexts for one endpoint the current one, then the first by name.
        let current = contexts.current.iter().filter_map(|name| contexts.kept.get_key_value(name));
        let found = current.chain(&contexts.kept).find(|(_, kept)| kept.endpoint == *endpoint);
        let (name, kept) = found.ok_or_else(|| TargetError::Stranger(endpoint.clone()))?;
        Ok(Target { passed_over, ..of(name, kept) })
    }
}

fn default_endpoint() -> Endpoint {
    Endpoint::Unix(help::SOCKET.into())
}

fn plain(endpoint: Endpoint) -> Target {
    Target { endpoint, login: None, context: None, passed_over: None }
}

fn of(name: &ContextName, kept: &Kept) -> Target {
    let login = kept.access.as_ref().map(Access::login);
    Target { endpoint: kept.endpoint.clone(), login, context: Some(name.clone()), passed_over: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let kept = |endpoint: &str| Kept { endpoint: endpoint.parse().unwrap(), access: None };
        let all =
            [("dev", "unix:/dev.sock"), ("prod", "https://p:1"), ("prod2", "https://p:1"), ("test", "https://t:1")];
        Contexts {
            current: "prod2".parse().ok(),
            kept: all.into_iter().map(|(name, endpoint)| (name.parse().unwrap(), kept(endpoint))).collect(),
        }
    }

    /// Endpoint, context in use, and the context that counted less.
    fn choose(endpoint: &str, context: &str, contexts: &Contexts) -> Result<String, String> {
        let wish = Wish { endpoint: endpoint.parse().ok(), context: context.parse().ok(), config: None };
        let or = |name: Option<ContextName>| name.map_or_else(|| "-".to_owned(), |name| name.to_string());
        let say = |target: Target| format!("{} {} {}", target.endpoint, or(target.context), or(target.passed_over));
        wish.choose(contexts).map(say).map_err(|error| error.to_string())
    }

    #[test]
    fn an_endpoint_counts_more_than_a_context_and_that_more_than_the_current_one() {
        let cases = [
            ("", "", "https://p:1 prod2 -"),
            ("", "dev", "unix:/dev.sock dev -"),
            ("", "prod", "https://p:1 prod -"),
            ("unix:/x", "", "unix:/x - -"),
            ("unix:/x", "prod", "unix:/x - prod"),
            ("https://t:1", "", "https://t:1 test -"),
            ("https://t:1", "prod", "https://t:1 test prod"),
            ("https://p:1", "prod", "https://p:1 prod -"),
            // Two are for it: the current one.
            ("https://p:1", "", "https://p:1 prod2 -"),
            ("http://127.0.0.1:1", "", "http://127.0.0.1:1 - -"),
        ];
        for (endpoint, context, expected) in cases {
            assert_eq!(choose(endpoint, context, &contexts()), Ok(expected.into()), "{endpoint:?} {context:?}");
        }
        let none = Contexts::default();
        assert_eq!(choose("", "", &none), Ok(format!("unix:{} - -", help::SOCKET)));
        assert_eq!(
            choose("https://x:1", "", &contexts()),
            Err("no context is for https://x:1: whom to believe there, and who you are, is not known".into())
        );
        assert_eq!(
            choose("", "nope", &contexts()),
            Err("there is no context nope; there are: dev, prod, prod2, test".into())
        );
        assert_eq!(choose("unix:/x", "nope", &none), Err("there is no context nope; there are none yet".into()));
    }

    #[test]
    fn an_endpoint_of_this_host_needs_no_file() {
        let config = Some("/nonexistent/dir/contexts.toml".into());
        let wish = Wish { endpoint: "unix:/x".parse().ok(), config, ..Wish::default() };
        assert_eq!(wish.resolve().unwrap(), plain("unix:/x".parse().unwrap()));
    }
}
