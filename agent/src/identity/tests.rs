//! Real files, and certificates of an authority made here.

use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType};

use super::*;

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

/// An authority, and what it signs from `NOW` on for so many hours.
struct Signer(CertificateParams, KeyPair);

impl Signer {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(params, KeyPair::generate().unwrap())
    }

    fn certificate(&self) -> Vec<u8> {
        self.0.self_signed(&self.1).unwrap().der().to_vec()
    }

    fn sign(&self, key: &Key, hours: i64) -> Vec<u8> {
        let csr = key.request("x").unwrap();
        let mut request = CertificateSigningRequestParams::from_der(&csr.as_slice().into()).unwrap();
        request.params.subject_alt_names = vec![SanType::URI("muster:host:server1".try_into().unwrap())];
        request.params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        request.params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + hours * HOUR).unwrap();
        let issuer = Issuer::from_params(&self.0, &self.1);
        request.signed_by(&issuer).unwrap().der().to_vec()
    }
}

fn papers() -> (tempfile::TempDir, Papers) {
    let dir = tempfile::tempdir().unwrap();
    let papers = Papers::in_dir(dir.path());
    (dir, papers)
}

#[test]
fn what_is_kept_is_loaded_and_what_is_missing_says_what_to_type() {
    let (dir, papers) = papers();
    let said = papers.load("server1").unwrap_err().to_string();
    assert!(said.contains("muster token create --host server1") && said.contains("muster-agent"), "{said}");
    let (signer, key) = (Signer::new(), papers.offer(false).unwrap());
    assert_eq!(papers.offer(false).unwrap(), key, "the same key again");
    papers.keep(&signer.sign(&key, 168), &[signer.certificate()]).unwrap();
    let known = papers.load("server1").unwrap();
    assert_eq!((known.about.key, known.authorities.len()), (key.sha256().unwrap(), 1));
    assert!(known.is_current() && !known.is_over(NOW) && known.is_over(NOW + 168 * HOUR));
    let mode = fs::metadata(dir.path().join("host.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    fs::set_permissions(dir.path().join("host.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(papers.load("server1").unwrap_err().to_string().contains("chmod 600"));
    fs::set_permissions(dir.path().join("host.key"), fs::Permissions::from_mode(0o600)).unwrap();
    papers.take(&papers.offer(true).unwrap()).unwrap();
    assert!(matches!(papers.load("server1"), Err(IdentityError::OtherKey(_))));
    fs::write(dir.path().join("host.key"), "no key").unwrap();
    assert!(matches!(papers.load("server1"), Err(IdentityError::Damaged { .. })));
}

#[test]
fn a_key_that_is_offered_takes_the_place_of_the_old_one_only_when_it_is_taken() {
    let (dir, papers) = papers();
    let old = papers.offer(false).unwrap();
    let offered = papers.offer(true).unwrap();
    assert_ne!(offered, old);
    assert_eq!(papers.key().unwrap(), Some(old.clone()), "it is only offered");
    assert_eq!(papers.offer(true).unwrap(), offered, "a reply was lost: the same one again");
    papers.drop_offer().unwrap();
    assert_eq!(papers.key().unwrap(), Some(old.clone()), "refused: nothing is lost");
    assert!(!dir.path().join(NEW_KEY).exists());

    let offered = papers.offer(true).unwrap();
    // As if it had ended in the middle of `take`: in its place already, and still beside.
    fs::copy(dir.path().join(NEW_KEY), dir.path().join(KEY)).unwrap();
    assert_ne!(papers.offer(true).unwrap(), offered, "that would be no other key");
    let offered = papers.offer(true).unwrap();
    fs::write(dir.path().join(KEY), "no key").unwrap();
    papers.take(&offered).unwrap();
    assert_eq!(papers.key().unwrap(), Some(offered), "whatever was there");
    assert!(!dir.path().join(NEW_KEY).exists());
}

#[test]
fn it_is_renewed_at_half_its_life_or_when_another_authority_signs() {
    let (_dir, papers) = papers();
    let (signer, key) = (Signer::new(), papers.offer(false).unwrap());
    papers.keep(&signer.sign(&key, 100), &[signer.certificate()]).unwrap();
    let mut known = papers.load("server1").unwrap();
    let due = |known: &Enrolled, hours: i64, jitter| known.renew_in(NOW + hours * HOUR, jitter).as_secs() / 3600;
    assert_eq!((due(&known, 0, 0.0), due(&known, 0, 1.0), due(&known, 0, 0.5)), (50, 40, 45));
    assert_eq!((due(&known, 49, 0.0), due(&known, 50, 0.0), due(&known, 1000, 1.0)), (1, 0, 0));
    let both = [Signer::new().certificate(), signer.certificate()];
    assert!(known.learn(&both));
    assert!(!known.learn(&both) && !known.learn(&[]));
    assert_eq!(due(&known, 0, 0.0), 0, "its authority does not sign any more");
}

#[tokio::test]
async fn that_a_certificate_has_come_is_an_event_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let papers = Papers::in_dir(dir.path());
    let news = papers.news().unwrap();
    papers.offer(false).unwrap();
    papers.believe(&[vec![1]]).unwrap();
    let none = tokio::time::timeout(Duration::ZERO, news.next()).await;
    assert!(none.is_err(), "a key is no certificate");
    let (nothing, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), news.next()), async {
        papers.keep(&[1], &[vec![1]]).unwrap();
    });
    nothing.expect("it has come");
    assert!(tokio::time::timeout(Duration::ZERO, news.next()).await.is_err(), "it is told once");
}
