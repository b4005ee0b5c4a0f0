//! TLS towards PostgreSQL: libpq's `sslmode` in rustls' terms, and the channel
//! binding that SCRAM takes from the server's certificate.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::upstream::UpstreamError;
use crate::api::{ClientCertificate, SslNegotiation};

/// The protocol's name in TLS (ALPN), as registered with IANA.
const ALPN: &[u8] = b"postgresql";

/// How the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Not at all (`sslmode=require`): against eavesdroppers, not against impostors.
    Nothing,
    /// Its chain (`verify-ca`).
    Chain,
    /// Its chain and its name (`verify-full`).
    ChainAndName,
}

/// What TLS to a server should be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) check: Check,
    /// The certificate authorities to trust, PEM; none means the system's.
    pub(super) ca_pem: Option<&'a str>,
    pub(super) certificate: Option<&'a ClientCertificate>,
    pub(super) negotiation: SslNegotiation,
}

/// A ready TLS configuration.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    check: Check,
    negotiation: SslNegotiation,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

impl Tls {
    /// Prepares TLS to `host`.
    pub(super) fn new(host: &str, wanted: Wanted<'_>) -> Result<Self, UpstreamError> {
        let Wanted { check, ca_pem, certificate, negotiation } = wanted;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| UpstreamError::Tls(format!("\"{host}\" can't be a TLS server name")))?;
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match check {
            Check::Nothing => Arc::new(Unchecked(Arc::clone(&provider))),
            Check::Chain => Arc::new(AnyName(webpki(&provider, ca_pem)?)),
            Check::ChainAndName => webpki(&provider, ca_pem)?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| UpstreamError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match certificate {
            Some(certificate) => shown(builder, certificate)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), name, check, negotiation })
    }

    /// How it begins.
    pub(super) fn negotiation(&self) -> SslNegotiation {
        self.negotiation
    }

    /// Whether the server has shown that it is the one that is meant, or at least one of
    /// whom the authority knows.
    pub(super) fn is_checked(&self) -> bool {
        self.check != Check::Nothing
    }

    /// Runs the TLS handshake. Where nothing was asked before it, the server must have
    /// said that it speaks PostgreSQL: else one of another kind could be led to answer.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, UpstreamError> {
        let stream = TlsConnector::from(Arc::clone(&self.config))
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| {
                UpstreamError::Tls(match self.negotiation {
                    SslNegotiation::Postgres => error.to_string(),
                    SslNegotiation::Direct => {
                        format!("{error} (sslnegotiation=direct takes PostgreSQL 17 or newer)")
                    }
                })
            })?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(ALPN);
        if self.negotiation == SslNegotiation::Direct && !agreed {
            return Err(UpstreamError::Tls(
                "with sslnegotiation=direct the server must agree on the protocol (ALPN), as \
                 PostgreSQL does from version 17 on; leave sslnegotiation out for older ones"
                    .to_owned(),
            ));
        }
        Ok(stream)
    }
}

/// Shows a client certificate to a server that asks for one.
fn shown(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: &ClientCertificate,
) -> Result<ClientConfig, UpstreamError> {
    let unusable = |what: &str, why: &dyn std::fmt::Display| {
        UpstreamError::Tls(format!("the client {what} can't be used: {why}"))
    };
    let chain = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable("certificate (sslcert)", &error))?;
    let pem = certificate.key_pem.expose_secret();
    if pem.contains("ENCRYPTED") {
        return Err(unusable("key (sslkey)", &"it is encrypted, and pgate has no password for it"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| unusable("key (sslkey)", &error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("certificate (sslcert)", &error))
}

fn webpki(
    provider: &Arc<CryptoProvider>,
    ca_pem: Option<&str>,
) -> Result<Arc<WebPkiServerVerifier>, UpstreamError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| {
                    UpstreamError::Tls(format!("the CA certificate can't be read: {error}"))
                })?;
                roots.add(certificate).map_err(|error| {
                    UpstreamError::Tls(format!("the CA certificate can't be used: {error}"))
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(UpstreamError::Tls("there is no certificate authority to trust".to_owned()));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| UpstreamError::Tls(error.to_string()))
}

/// Checks the chain, and lets any name pass.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let checked =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            // The name is looked at last, when the chain has been found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Checks only that the peer holds the key of the certificate that it shows.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929 section 4): the certificate's hash by the hash of
/// its signature, SHA-256 instead of MD5 and SHA-1. `None` for signatures that name none.
pub(super) fn end_point(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    end_point_of(certificate)
}

fn end_point_of(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    // Certificate ::= SEQUENCE { tbs SEQUENCE, algorithm SEQUENCE { OID, … }, … }
    let (_, certificate_body, _) = der(certificate)?;
    let (_, _, after_tbs) = der(certificate_body)?;
    let (_, algorithm, _) = der(after_tbs)?;
    let (0x06, oid, _) = der(algorithm)? else { return None };
    let (family, last) = oid.split_last().map(|(last, family)| (family, *last))?;
    let sha256 = || Some(Sha256::digest(certificate).to_vec());
    let sha384 = || Some(Sha384::digest(certificate).to_vec());
    let sha512 = || Some(Sha512::digest(certificate).to_vec());
    match (family, last) {
        _ if oid == ECDSA_SHA1 => sha256(),
        (RSA, 4 | 5 | 11) | (ECDSA_SHA2, 2) => sha256(),
        (RSA, 12) | (ECDSA_SHA2, 3) => sha384(),
        (RSA, 13) | (ECDSA_SHA2, 4) => sha512(),
        _ => None,
    }
}

/// One DER element: its tag, its content, what follows.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_binding_of_an_ecdsa_certificate_is_its_sha256() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["db".into()]).unwrap().self_signed(&key).unwrap();
        let der = certificate.der();
        assert_eq!(end_point_of(der), Some(Sha256::digest(der).to_vec()));
        for cut in 0..der.len() {
            assert_eq!(end_point_of(&der[..cut]), None);
        }
    }
}
