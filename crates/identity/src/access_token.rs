//! Access tokens: JWTs (RFC 9068) signed with EdDSA.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use cached::{Expires, ShardedExpiringLruCache};
use chrono::Utc;
use daybook_core::Role;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::key_set::KeySet;
use crate::{IdentityError, Settings};

/// Tells an access token from any other JWT (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";

/// The longest token that is looked at.
const BYTES_MAX: usize = 4_096;

/// How far ahead of ours the clock of the process that issued a token may be.
const CLOCK_SKEW_S: u64 = 5;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    roles: Vec<Role>,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

/// What a genuine token says. Whether its session is still good, it does not know.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) account_id: Uuid,
    pub(crate) session_id: Uuid,
    pub(crate) roles: Arc<[Role]>,
    kid: Arc<str>,
    /// Unix seconds.
    expires_at: i64,
}

impl Expires for Verified {
    fn is_expired(&self) -> bool {
        Utc::now().timestamp() >= self.expires_at
    }
}

/// Issues and verifies access tokens.
pub(crate) struct AccessTokens {
    validation: Validation,
    issuer: String,
    audience: String,
    lifetime_s: i64,
    /// By the SHA-256 of the token: verifying a signature costs as much as a small query.
    verified: ShardedExpiringLruCache<[u8; 32], Verified>,
}

impl AccessTokens {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        // What is not required here is only checked when the token happens to have it.
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = CLOCK_SKEW_S;
        Self {
            validation,
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            lifetime_s: i64::try_from(settings.access_lifetime.as_secs()).unwrap_or(i64::MAX / 2_000),
            verified: ShardedExpiringLruCache::new(settings.verified_tokens_max.max(1)),
        }
    }

    /// How long a token is good for, in seconds.
    pub(crate) fn lifetime_s(&self) -> u64 {
        self.lifetime_s.unsigned_abs()
    }

    /// Issues a token.
    pub(crate) fn issue(
        &self,
        keys: &KeySet,
        account_id: Uuid,
        session_id: Uuid,
        roles: Vec<Role>,
    ) -> Result<String, IdentityError> {
        let now = Utc::now();
        let key = keys
            .signer(now.timestamp_millis())
            .ok_or_else(|| IdentityError::Internal("there is no key to sign with".into()))?;
        let header =
            Header { typ: Some(TYPE.into()), kid: Some(key.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: account_id,
            sid: session_id,
            roles,
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: now.timestamp() + self.lifetime_s,
            jti: Uuid::now_v7(),
        };
        encode(&header, &claims, &key.encoding)
            .map_err(|error| IdentityError::Internal(format!("signing: {error}")))
    }

    /// Verifies a token, unless it was verified before.
    pub(crate) fn verify(&self, keys: &KeySet, token: &str) -> Result<Verified, IdentityError> {
        if token.len() > BYTES_MAX {
            return Err(IdentityError::InvalidToken);
        }
        let digest = sha256(token);
        if let Some(verified) = self.verified.get(&digest) {
            // Its key may have been retired meanwhile.
            let known = keys.verifier(&verified.kid, Utc::now().timestamp_millis()).is_some();
            return if known { Ok(verified) } else { Err(IdentityError::InvalidToken) };
        }
        let verified = self.check(keys, token).ok_or(IdentityError::InvalidToken)?;
        self.verified.set(digest, verified.clone());
        Ok(verified)
    }

    fn check(&self, keys: &KeySet, token: &str) -> Option<Verified> {
        let header = decode_header(token).ok()?;
        // Ours name no key but by its id, and nothing that a reader would have to understand.
        let plain = header.jku.is_none()
            && header.jwk.is_none()
            && header.x5u.is_none()
            && header.x5c.is_none()
            && header.crit.is_none();
        if header.typ.as_deref() != Some(TYPE) || !plain {
            return None;
        }
        let key = keys.verifier(header.kid.as_deref()?, Utc::now().timestamp_millis())?;
        let claims = decode::<Claims>(token, &key.decoding, &self.validation).ok()?.claims;
        let verified = Verified {
            account_id: claims.sub,
            session_id: claims.sid,
            roles: claims.roles.into(),
            kid: key.kid.as_str().into(),
            expires_at: claims.exp,
        };
        // The library's leeway is for clocks that are ahead; past its end a token gets none.
        (!verified.is_expired()).then_some(verified)
    }
}

pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use daybook_keys::StoredSigningKey;
    use jsonwebtoken::EncodingKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::key_set::SigningKey;

    struct Bench {
        tokens: AccessTokens,
        keys: KeySet,
    }

    fn bench() -> Bench {
        let pkcs8 = SigningKey::generate().expect("a key").into();
        let stored = StoredSigningKey { number: 1, pkcs8, sign_from_ms: 0, verify_until_ms: None };
        Bench { tokens: AccessTokens::new(&Settings::default()), keys: KeySet::read(&[stored]).expect("keys") }
    }

    impl Bench {
        fn kid(&self) -> String {
            self.keys.signer(1).expect("a key").kid.clone()
        }

        fn header(&self) -> Value {
            json!({"typ": "at+jwt", "alg": "EdDSA", "kid": self.kid()})
        }

        fn claims(&self) -> Value {
            let now = Utc::now().timestamp();
            json!({
                "iss": "daybook", "aud": "daybook", "sub": Uuid::from_u128(1), "sid": Uuid::from_u128(2),
                "roles": ["customer"], "iat": now, "nbf": now, "exp": now + 900, "jti": Uuid::from_u128(3),
            })
        }

        /// Signs whatever it is given with the true key.
        fn sign(&self, header: &Value, claims: &Value) -> String {
            let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
            let key = &self.keys.signer(1).expect("a key").encoding;
            let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::EdDSA).expect("signed");
            format!("{message}.{signature}")
        }

        #[track_caller]
        fn check_refused(&self, token: &str) {
            let result = self.tokens.verify(&self.keys, token);
            assert!(matches!(result, Err(IdentityError::InvalidToken)), "taken: {result:?}");
        }

        #[track_caller]
        fn check_refused_with(&self, field: &str, value: Value) {
            let (mut header, mut claims) = (self.header(), self.claims());
            let part = if claims.get(field).is_some() { &mut claims } else { &mut header };
            match value {
                Value::Null => drop(part.as_object_mut().expect("an object").remove(field)),
                value => part[field] = value,
            }
            self.check_refused(&self.sign(&header, &claims));
        }
    }

    #[test]
    fn an_issued_token_says_whose_it_is() {
        let bench = bench();
        let (account, session) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let token =
            bench.tokens.issue(&bench.keys, account, session, vec![Role::Customer, Role::Staff]).expect("issued");
        for _ in ["verified", "remembered"] {
            let verified = bench.tokens.verify(&bench.keys, &token).expect("genuine");
            assert_eq!((verified.account_id, verified.session_id), (account, session));
            assert_eq!(*verified.roles, [Role::Customer, Role::Staff]);
        }
        // The bench's own forgeries are refused for what is wrong with them, not for how they are made.
        bench.tokens.verify(&bench.keys, &bench.sign(&bench.header(), &bench.claims())).expect("genuine");
    }

    #[test]
    fn no_other_algorithm_is_taken() {
        let bench = bench();
        let (header, claims) = (bench.header(), bench.claims());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        for none in ["none", "None", "NONE"] {
            let mut header = header.clone();
            header["alg"] = none.into();
            bench.check_refused(&format!("{}.{}.", part(&header), part(&claims)));
            bench.check_refused(&bench.sign(&header, &claims));
        }
        let public = bench.keys.jwks(0)["keys"][0]["x"].as_str().expect("a key").to_owned();
        for secret in [public.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(&public).expect("base64")] {
            let header =
                Header { typ: Some(TYPE.into()), kid: Some(bench.kid()), ..Header::new(Algorithm::HS256) };
            let token = encode(&header, &claims, &EncodingKey::from_secret(&secret)).expect("signed");
            bench.check_refused(&token);
        }
    }

    #[test]
    fn wrong_or_missing_claims_are_refused() {
        let bench = bench();
        let now = Utc::now().timestamp();
        for field in ["iss", "aud", "exp", "nbf", "sub", "sid", "roles", "typ", "kid"] {
            bench.check_refused_with(field, Value::Null);
        }
        for (field, value) in [
            ("iss", json!("somebody")),
            ("aud", json!("others")),
            ("aud", json!(["others"])),
            ("exp", json!((now + 900).to_string())),
            ("exp", json!(now)),
            ("exp", json!(now - 1)),
            ("exp", json!(-1)),
            ("exp", json!(1e300)),
            ("nbf", json!(now.to_string())),
            ("nbf", json!(now + 60)),
            ("sub", json!("admin")),
            ("roles", json!(["root"])),
            ("typ", json!("JWT")),
        ] {
            bench.check_refused_with(field, value);
        }
    }

    #[test]
    fn a_key_is_only_ever_one_of_ours() {
        let (bench, other) = (bench(), bench());
        for kid in ["../../x", "' OR 1=1 --", "", &other.kid()] {
            bench.check_refused_with("kid", json!(kid));
        }
        bench.check_refused_with("kid", json!(1));
        bench.check_refused_with("jku", json!("https://example.com/jwks.json"));
        bench.check_refused_with("x5u", json!("https://example.com/cert.pem"));
        bench.check_refused_with("jwk", other.keys.jwks(0)["keys"][0].clone());
        bench.check_refused_with("crit", json!(["exp"]));
        bench.check_refused(&other.sign(&bench.header(), &bench.claims()));
    }

    #[test]
    fn a_token_that_was_changed_is_refused() {
        let bench = bench();
        let token = bench.sign(&bench.header(), &bench.claims());
        let parts: Vec<_> = token.split('.').collect();
        let mut admin = bench.claims();
        admin["roles"] = json!(["admin"]);
        let admin = URL_SAFE_NO_PAD.encode(admin.to_string());
        bench.check_refused(&format!("{}.{admin}.{}", parts[0], parts[2]));
        bench.check_refused(&format!("{}.{}", parts[0], parts[1]));
        bench.check_refused(&format!("{token}."));
        bench.check_refused(&format!("{token}="));
        for garbage in ["", ".", "..", "a.b.c", "é.é.é", &"a".repeat(5_000)] {
            bench.check_refused(garbage);
        }
    }

    #[test]
    fn a_remembered_token_is_refused_once_it_has_expired_or_its_key_is_retired() {
        let pkcs8 = SigningKey::generate().expect("a key");
        let keys = |verify_until_ms| {
            let stored =
                StoredSigningKey { number: 1, pkcs8: pkcs8.clone().into(), sign_from_ms: 0, verify_until_ms };
            KeySet::read(&[stored]).expect("keys")
        };
        let bench = Bench { tokens: AccessTokens::new(&Settings::default()), keys: keys(None) };
        let token = bench.sign(&bench.header(), &bench.claims());
        let mut verified = bench.tokens.verify(&bench.keys, &token).expect("genuine");
        let retired = bench.tokens.verify(&keys(Some(Utc::now().timestamp_millis())), &token);
        assert!(matches!(retired, Err(IdentityError::InvalidToken)), "taken: {retired:?}");

        verified.expires_at = Utc::now().timestamp();
        bench.tokens.verified.set(sha256(&token), verified);
        assert!(bench.tokens.verified.get(&sha256(&token)).is_none());
    }
}
