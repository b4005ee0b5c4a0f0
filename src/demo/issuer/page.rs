//! The verification page: plain HTML, no script.

use super::Person;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;\
padding:0 1rem}input,button{font:inherit;padding:.5rem .75rem;margin:.25rem 0}\
button{display:block;width:100%;text-align:left}code{font-size:1.25em}";

/// Asks who to be in a terminal.
pub(super) fn choice(people: &[Person], user_code: &str) -> String {
    let refuse = "<button name=\"person\" value=\"\">Refuse this login</button>";
    document(&format!(
        "<h1>Log in to pgate</h1>\
         <p>This is a development issuer: it asks for no password. Check that the code is the \
         one in your terminal, and pick who to be.</p>\
         <form method=\"post\" action=\"/device\">\
         <p><label>Code <input name=\"user_code\" value=\"{}\" autocomplete=\"off\" required>\
         </label></p>{}{refuse}</form>",
        escape(user_code),
        buttons(people),
    ))
}

/// Asks who to be in this browser. The form brings back what was asked.
pub(super) fn browser_choice(people: &[Person], asked: &[(String, String)]) -> String {
    let fields = asked
        .iter()
        .map(|(name, value)| {
            let (name, value) = (escape(name), escape(value));
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
        })
        .collect::<String>();
    let refuse = "<button name=\"person\" value=\"\">Refuse this sign-in</button>";
    document(&format!(
        "<h1>Sign in to pgate</h1>\
         <p>This is a development issuer: it asks for no password. Pick who to be.</p>\
         <form method=\"post\" action=\"/authorize\">{fields}{}{refuse}</form>",
        buttons(people),
    ))
}

fn buttons(people: &[Person]) -> String {
    people
        .iter()
        .map(|person| {
            let (email, groups) = (escape(&person.email), escape(&person.groups.join(", ")));
            format!(
                "<button name=\"person\" value=\"{email}\">Continue as {email} ({groups})</button>"
            )
        })
        .collect()
}

/// Says something.
pub(super) fn message(text: &str) -> String {
    document(&format!("<h1>pgate</h1><p>{}</p>", escape(text)))
}

fn document(body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <title>pgate development issuer</title><style>{STYLE}</style>{body}</html>"
    )
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => "&#39;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_the_address_bar_stays_text() {
        let page = choice(&[], "\"><script>alert(1)</script>");
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&quot;&gt;&lt;script&gt;"), "{page}");
        let asked = [("state".to_owned(), "\"><script>alert(1)</script>".to_owned())];
        assert!(!browser_choice(&[], &asked).contains("<script"));
    }
}
