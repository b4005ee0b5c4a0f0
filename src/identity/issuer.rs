//! An OpenID provider: where its endpoints are and which keys it signs with.

use oauth2::{DeviceAuthorizationUrl, TokenUrl};
use openidconnect::{
    ClientId, IdTokenVerifier, IssuerUrl, JsonWebKeySetUrl,
    core::{CoreClient, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use serde::Deserialize;
use url::Url;

use super::{Error, web::Web};

/// Signatures that an ID token may have: asymmetric ones, nothing that a client
/// id could forge.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// An issuer and the client that pgate is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in the control plane's configuration.
    pub name: String,
    /// Its URL, exactly as its tokens' `iss` has it.
    pub url: String,
    /// pgate's client id there.
    pub client_id: String,
    /// Scopes to ask for besides `openid`.
    pub scopes: Vec<String>,
}

/// What discovery found (OpenID Connect Discovery 1.0, section 3; RFC 8628,
/// section 4).
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: TokenUrl,
    jwks_uri: JsonWebKeySetUrl,
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
}

/// An issuer that has been asked for its endpoints and keys.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) issuer: Issuer,
    pub(super) web: Web,
    issuer_url: IssuerUrl,
    metadata: Metadata,
    keys: CoreJsonWebKeySet,
}

/// A client of an issuer whose token endpoint is known.
pub(super) type TokenClient = CoreClient<
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointSet,
>;

impl Provider {
    /// Fetches the discovery document and the keys.
    pub(super) async fn discover(issuer: &Issuer) -> Result<Self, Error> {
        let garbage = |problem: String| Error::Garbage { issuer: issuer.url.clone(), problem };
        let issuer_url = IssuerUrl::new(issuer.url.clone())
            .map_err(|error| garbage(format!("its URL is no URL ({error})")))?;
        let well_known =
            format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let url: Url =
            well_known.parse().map_err(|error| garbage(format!("its URL is no URL ({error})")))?;
        let web = Web::new(&url)?;

        let metadata: Metadata = web.json(&well_known).await?;
        if metadata.issuer != issuer.url {
            return Err(garbage(format!(
                "its discovery document is about {}, not about {}",
                metadata.issuer.chars().take(200).collect::<String>(),
                issuer.url
            )));
        }
        let keys = web.json(metadata.jwks_uri.as_str()).await?;
        Ok(Self { issuer: issuer.clone(), web, issuer_url, metadata, keys })
    }

    /// Where a device flow begins, if the issuer has one.
    pub(super) fn device_endpoint(&self) -> Option<DeviceAuthorizationUrl> {
        self.metadata.device_authorization_endpoint.clone()
    }

    /// The OAuth client.
    pub(super) fn client(&self) -> TokenClient {
        CoreClient::new(self.client_id(), self.issuer_url.clone(), self.keys.clone())
            .set_token_uri(self.metadata.token_endpoint.clone())
            .set_auth_type(oauth2::AuthType::RequestBody)
    }

    /// What checks the issuer's ID tokens: signature, `iss`, `aud`, `exp`. Further
    /// audiences beside ours are the control plane's question.
    pub(super) fn verifier(&self) -> CoreIdTokenVerifier<'static> {
        IdTokenVerifier::new_public_client(
            self.client_id(),
            self.issuer_url.clone(),
            self.keys.clone(),
        )
        .set_allowed_algs(ALGORITHMS)
        .set_other_audience_verifier_fn(|_| true)
    }

    fn client_id(&self) -> ClientId {
        ClientId::new(self.issuer.client_id.clone())
    }
}
