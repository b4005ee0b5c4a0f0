//! A browser as far as plain pages need one: cookies by host, redirects, forms.

use std::collections::BTreeMap;

use url::Url;

/// Redirects and pages that one visit may take.
const MOST_STEPS: usize = 20;

/// A browser and its cookies.
pub(crate) struct Browser {
    client: reqwest::Client,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// A page that came, after its redirects.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Page {
    /// Fails the test, with all of the page, unless this text is on it.
    #[track_caller]
    pub(crate) fn shows(self, text: &str) -> Self {
        assert!(self.text.contains(text), "no {text:?} on {self:?}");
        self
    }

    /// The address and the hidden fields of the form whose address has this in it.
    #[track_caller]
    fn form(&self, action: &str) -> (Url, Vec<(String, String)>) {
        let forms = self.text.split("<form").skip(1);
        let forms = forms.map(|form| form.split("</form>").next().unwrap_or_default());
        let mut forms = forms.map(|form| (attribute(form, "action").unwrap_or_default(), form));
        let found = forms.find(|(address, _)| address.contains(action));
        let (address, form) = found.unwrap_or_else(|| panic!("no form to {action} on {self:?}"));
        let inputs = form.split("<input").skip(1).filter_map(|input| {
            let tag = input.split('>').next()?;
            Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))
        });
        (self.url.join(&address).expect("an address"), inputs.collect())
    }
}

/// An attribute of the first tag in `text` that has it.
fn attribute(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{name}=\""))?;
    let value = rest.split('"').next()?;
    let entities = [("&quot;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    Some(entities.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to)))
}

impl Browser {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().no_proxy().redirect(none).build();
        Self { client: client.expect("a client"), cookies: BTreeMap::new() }
    }

    /// Opens an address.
    pub(crate) async fn open(&mut self, url: &str) -> Page {
        let url = Url::parse(url).expect("a URL");
        self.visit(self.client.get(url.clone()), url).await
    }

    /// Sends the form of a page whose address has `action` in it, with these fields filled in.
    pub(crate) async fn send(
        &mut self,
        page: &Page,
        action: &str,
        filled: &[(&str, &str)],
    ) -> Page {
        let (url, mut fields) = page.form(action);
        fields.retain(|(name, _)| filled.iter().all(|(filled, _)| filled != name));
        fields.extend(filled.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let origin = page.url.origin().ascii_serialization();
        let request = self.client.post(url.clone()).header("origin", origin).form(&fields);
        self.visit(request, url).await
    }

    async fn visit(&mut self, mut request: reqwest::RequestBuilder, mut url: Url) -> Page {
        for _ in 0..MOST_STEPS {
            let host = url.authority().to_owned();
            let own = self.cookies.entry(host).or_default();
            let pairs = own.iter().map(|(name, value)| format!("{name}={value}"));
            let cookies = pairs.collect::<Vec<_>>().join("; ");
            let answer = request.header("cookie", cookies).send().await.expect("an answer");
            for line in answer.headers().get_all("set-cookie") {
                let pair = line.to_str().expect("ASCII").split(';').next().unwrap_or_default();
                match pair.split_once('=') {
                    Some((name, "")) => drop(own.remove(name)),
                    Some((name, value)) => drop(own.insert(name.into(), value.into())),
                    None => {}
                }
            }
            let Some(next) = answer.headers().get("location") else {
                let status = answer.status().as_u16();
                return Page { url, status, text: answer.text().await.expect("a page") };
            };
            url = url.join(next.to_str().expect("ASCII")).expect("an address");
            request = self.client.get(url.clone());
        }
        panic!("redirected for ever, at {url}");
    }
}
