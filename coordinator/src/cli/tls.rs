//! What a failed handshake means: whom the two sides do not believe, and what to do about it.

use std::{error::Error, fmt, io};

use rustls::{AlertDescription, CertificateError};

/// What a coordinator says that does not take our certificate.
const REFUSALS: [AlertDescription; 8] = [
    AlertDescription::CertificateExpired,
    AlertDescription::UnknownCA,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateUnknown,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateRequired,
    AlertDescription::AccessDenied,
    // Signed by somebody of the right name and another key: a fleet that was made anew.
    AlertDescription::DecryptError,
];

/// Who does not believe whom, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// Whoever answers there is signed by nobody that we believe.
    OtherFleet,
    /// Its certificate has ended, or has not begun.
    Expired,
    /// It says that ours has.
    OurExpired,
    /// It does not take ours.
    OurRefused,
    /// The two do not understand each other at all.
    Handshake,
}

impl Distrust {
    /// What the TLS library's error means.
    pub fn of(error: &rustls::Error) -> Self {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
            ) => Self::Expired,
            // The verifier of a pinned authority has only this form for its sentence.
            rustls::Error::InvalidCertificate(_) | rustls::Error::General(_) => Self::OtherFleet,
            rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => Self::OurExpired,
            rustls::Error::AlertReceived(alert) if REFUSALS.contains(alert) => Self::OurRefused,
            _ => Self::Handshake,
        }
    }

    /// What to do.
    pub fn hint(self) -> &'static str {
        match self {
            Self::OtherFleet => {
                "is it the right address? If the fleet has new authorities, ask an admin for a new access string and \
                 add the context again; if neither, somebody is in between"
            }
            Self::Expired => "compare this machine's clock (date) with the coordinator's; then look at its log",
            Self::OurExpired => "ask an admin for a new access string, then: muster context add NAME --certificate",
            Self::OurRefused => {
                "was the user removed? Ask an admin for a new access string, then: muster context add NAME"
            }
            Self::Handshake => "does muster-coordinator listen there? It speaks TLS 1.3 alone",
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherFleet => "whoever answers there is not the coordinator of this context's fleet",
            Self::Expired => "the coordinator's certificate does not hold now",
            Self::OurExpired => "the coordinator says that this context's certificate has expired",
            Self::OurRefused => "the coordinator does not take this context's certificate",
            Self::Handshake => "no secure connection came about",
        })
    }
}

/// The library's words, without what it puts before a verifier's own sentence.
pub fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::General(sentence) => sentence.clone(),
        other => other.to_string(),
    }
}

/// The TLS library's verdict, however deep it lies.
pub fn find(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.clone());
        }
        // After the handshake HTTP/2 hands errors on as their texts alone.
        let text = error.downcast_ref::<io::Error>().map(ToString::to_string);
        let mut alerts = REFUSALS.into_iter().map(rustls::Error::AlertReceived);
        if let Some(alert) = alerts.find(|alert| Some(alert.to_string()) == text) {
            return Some(alert);
        }
        // An io::Error passes over what it wraps when it is asked for its source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        next = wrapped.map(|error| error as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_found_below_what_wraps_it() {
        let inner = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner.clone()));
        assert_eq!(find(&outer), Some(inner.clone()));
        assert_eq!(find(&io::Error::other(inner.to_string())), Some(inner));
        assert_eq!(find(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }

    #[test]
    fn each_verdict_says_whose_fault_it_is() {
        use AlertDescription::{AccessDenied, CertificateExpired, ProtocolVersion, UnknownCA};
        let cases = [
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), Distrust::OtherFleet),
            (rustls::Error::General("pinned".into()), Distrust::OtherFleet),
            (rustls::Error::InvalidCertificate(CertificateError::Expired), Distrust::Expired),
            (rustls::Error::AlertReceived(CertificateExpired), Distrust::OurExpired),
            (rustls::Error::AlertReceived(UnknownCA), Distrust::OurRefused),
            (rustls::Error::AlertReceived(AccessDenied), Distrust::OurRefused),
            (rustls::Error::AlertReceived(ProtocolVersion), Distrust::Handshake),
        ];
        for (error, expected) in cases {
            assert_eq!(Distrust::of(&error), expected, "{error}");
        }
    }
}
