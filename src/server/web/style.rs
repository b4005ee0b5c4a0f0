//! The pages' one style sheet, and the policy that lets nothing else in.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

pub(super) const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:0 1rem 4rem}\
header{display:flex;gap:1rem;align-items:baseline;border-bottom:1px solid #8888;padding:.75rem 0}\
header form{margin-left:auto}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}\
dt{opacity:.7}dd{margin:0;overflow-wrap:anywhere}\
pre,code{font:14px/1.5 ui-monospace,monospace;unicode-bidi:isolate;direction:ltr}\
pre{overflow-x:auto;border:1px solid #8888;border-radius:.25rem;padding:.75rem;margin:.5rem 0}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid #8884}\
td{overflow-wrap:anywhere}\
textarea{font:inherit;width:100%;box-sizing:border-box}\
button{font:inherit;padding:.4rem .8rem;margin:.5rem .5rem .5rem 0}\
.state{border-left:.25rem solid #888;padding-left:.75rem}";

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&policy).expect("it is made of ASCII letters and signs")
});

/// Content-Security-Policy: this style sheet, forms to this server, nothing else.
pub(super) fn content_security_policy() -> HeaderValue {
    POLICY.clone()
}
