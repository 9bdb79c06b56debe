//! Who may ask: basic authentication against bcrypt hashes.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};
use thiserror::Error;
use tokio::sync::Semaphore;

/// Verified passwords that are remembered: a scraper sends the same one every time, and to
/// verify it takes a tenth of a second on purpose.
const REMEMBERED: usize = 64;

/// Passwords that are verified at the same time: a client that guesses cannot take more than
/// one processor.
const AT_ONCE: usize = 1;

/// Compared with where there is no such user, so that the time does not tell. Of a password
/// that nobody knows; with the usual cost.
const NOBODY: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// A user whose hash is none.
#[derive(Debug, Error)]
#[error(
    "the password of {user} in basic_auth_users is no bcrypt hash ({source}); make one with \
     `htpasswd -nBC 10 \"\"`"
)]
pub(super) struct BadHash {
    user: String,
    source: bcrypt::BcryptError,
}

/// The users of one reading of the file, and who has been verified.
#[derive(Clone, Debug)]
pub(super) struct Users {
    hashes: Arc<BTreeMap<String, String>>,
    /// Digests of names and passwords.
    verified: Arc<Mutex<HashSet<Vec<u8>>>>,
    places: Arc<Semaphore>,
}

impl Users {
    /// Those of the file, each with a hash that is one.
    pub(super) fn new(hashes: &BTreeMap<String, String>) -> Result<Self, BadHash> {
        for (user, hash) in hashes {
            let parts: Result<bcrypt::HashParts, _> = hash.parse();
            parts.map_err(|source| BadHash { user: user.clone(), source })?;
        }
        Ok(Self {
            hashes: Arc::new(hashes.clone()),
            verified: Arc::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Nobody is asked who they are.
    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether these headers are of a user with the right password.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let known = self.hashes.get(&user).cloned();
        // A user's name has no colon.
        let entry = digest(&SHA256, format!("{user}:{password}").as_bytes()).as_ref().to_vec();
        if self.is_verified(&entry) {
            return true;
        }
        // Only closing would fail this, and nobody closes it.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return false };
        if self.is_verified(&entry) {
            return true;
        }
        let verified = tokio::task::spawn_blocking(move || {
            let hash = known.as_deref().unwrap_or(NOBODY);
            let fits = bcrypt::verify(password, hash).unwrap_or(false);
            drop(place);
            fits && known.is_some()
        });
        let verified = verified.await.unwrap_or(false);
        if verified {
            let mut all = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= REMEMBERED {
                all.clear();
            }
            all.insert(entry);
        }
        verified
    }

    fn is_verified(&self, entry: &Vec<u8>) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(entry)
    }
}

/// User and password of `Authorization: Basic`.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| {
        // RFC 9110, 11.1: the scheme's case does not matter.
        scheme.eq_ignore_ascii_case("basic")
    })?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    fn users() -> Users {
        let hash = bcrypt::hash("secret:with colon", 4).unwrap();
        Users::new(&BTreeMap::from([("alice".to_owned(), hash)])).unwrap()
    }

    fn basic(text: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(text)))
    }

    #[tokio::test]
    async fn the_right_password_is_taken_and_remembered() {
        let users = users();
        assert!(users.admit(&basic("alice:secret:with colon")).await);
        assert_eq!(users.verified.lock().unwrap().len(), 1);
        assert!(users.admit(&basic("alice:secret:with colon")).await);
        for wrong in ["alice:secret", "bob:secret:with colon", "alice", ":", "alice:"] {
            assert!(!users.admit(&basic(wrong)).await, "{wrong}");
        }
        assert_eq!(users.verified.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        let users = users();
        assert!(!users.admit(&HeaderMap::new()).await);
        for value in ["Basic", "Basic !!!", "Bearer abc", "basic ", "Basic //79/Q=="] {
            assert!(!users.admit(&headers(value)).await, "{value}");
        }
    }

    #[test]
    fn a_password_in_the_clear_is_no_hash() {
        let error = Users::new(&BTreeMap::from([("bob".to_owned(), "secret".to_owned())]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("bob") && error.contains("htpasswd"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
