//! What the pages look like. The template escapes every text; [`escaped`] shows what
//! would hide in one.

use axum::{
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
};
use jiff::{Timestamp, tz::TimeZone};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Page, Site, browser::Visitor, style::STYLE};
use crate::{
    api::{
        HoldSummary, HoldView, Inbox, bound_value, distance, escaped, escaped_lines, lasting,
        outcome, sent_as,
    },
    grant::{Decision, Grant, HoldState, Identity, State},
    server::problem::Refusal,
};

/// Characters of a statement in a list.
const MOST_OF_STATEMENT: usize = 160;

fn document(site: &Site, title: &str, visitor: Option<&Visitor>, body: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (escaped(title)) " · pgate" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    a href=(site.link(&Page::Waiting)) { "pgate" }
                    @if let Some(visitor) = visitor {
                        span { (escaped(&visitor.identity.to_string())) }
                        form method="post" action={ (site.base) "/logout" } {
                            input type="hidden" name="form" value=(visitor.form_token);
                            button { "Sign out" }
                        }
                    }
                }
                main { h1 { (escaped(title)) } (body) }
            }
        }
    };
    Html(page.into_string())
}

/// A refusal.
pub(super) fn refused(site: &Site, refusal: &Refusal) -> Response {
    let problem = refusal.problem();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = html! {
        p { (escaped(&problem.title)) "." }
        @if let Some(hint) = &problem.hint { p { "Next: " (escaped(hint)) "." } }
        p { a href=(site.link(&Page::Waiting)) { "What waits for you" } }
    };
    (status, document(site, "That didn’t work", None, body)).into_response()
}

/// Several issuers to sign in at.
pub(super) fn choice(site: &Site, issuers: &[&str], to: &Page) -> Response {
    let body = html! {
        ul {
            @for issuer in issuers {
                // A name has letters, digits, "-", "_" and ".", which a query can hold as they are.
                li { a href={ (site.sign_in_link(to)) "&issuer=" (issuer) } { (issuer) } }
            }
        }
    };
    document(site, "Sign in at", None, body).into_response()
}

pub(super) fn signed_out(site: &Site) -> Response {
    let body = html! {
        p { "The issuer may still know you: sign out there too, if this isn’t your own machine." }
        p { a href=(site.sign_in_link(&Page::Waiting)) { "Sign in again" } }
    };
    document(site, "You are signed out", None, body).into_response()
}

/// What waits for a reviewer; held statements first, whose clients wait.
pub(super) fn list(site: &Site, visitor: &Visitor, inbox: &Inbox, now: Timestamp) -> Response {
    let body = html! {
        h2 { "Held statements" }
        @if inbox.holds.is_empty() { p { "None." } } @else { (held(site, &inbox.holds, now)) }
        h2 { "Requests for grants" }
        @if inbox.grants.is_empty() { p { "None." } } @else { (requests(site, &inbox.grants, now)) }
    };
    document(site, "What waits for you", Some(visitor), body).into_response()
}

fn held(site: &Site, holds: &[HoldSummary], now: Timestamp) -> Markup {
    html! {
        table {
            tr { th { "Held" } th { "Who" } th { "Access" } th { "Waits until" } th { "Statement" } }
            @for hold in holds {
                tr {
                    td { a href=(site.link(&Page::Hold(hold.id.clone()))) { (hold.id) } }
                    td { (escaped(&hold.identity.to_string())) }
                    td { (escaped(&hold.target)) " as " (escaped(&hold.role)) }
                    td { (moment(hold.expires_at, now)) }
                    td { code { (beginning(&hold.sql)) } }
                }
            }
        }
    }
}

fn requests(site: &Site, grants: &[Grant], now: Timestamp) -> Markup {
    html! {
        table {
            tr { th { "Request" } th { "Who" } th { "Access" } th { "For" } th { "Asked" } th { "Reason" } }
            @for grant in grants {
                tr {
                    td { a href=(site.link(&Page::Grant(grant.id.clone()))) { (grant.id) } }
                    td { (escaped(&grant.identity.to_string())) }
                    td { (escaped(&grant.target)) " as " (escaped(&grant.role)) }
                    td { (lasting(grant.ttl_seconds)) }
                    td { (moment(grant.requested_at, now)) }
                    td { (escaped(&grant.reason)) }
                }
            }
        }
    }
}

/// A hold, and what its page adds.
pub(super) struct Shown<'a> {
    pub(super) view: &'a HoldView,
    /// The statement laid out, where that differs.
    pub(super) pretty: Option<&'a str>,
    /// Whether it is the visitor's own.
    pub(super) own: bool,
    /// Whether the visitor may decide.
    pub(super) decides: bool,
}

/// A held statement with all that a reviewer must know.
pub(super) fn hold(site: &Site, visitor: &Visitor, shown: &Shown<'_>, now: Timestamp) -> Response {
    let HoldView { hold, statement, .. } = shown.view;
    let waiting = hold.state == HoldState::Waiting;
    let body = html! {
        p.state {
            @if waiting {
                "It waits until " (moment(hold.expires_at, now)) ", and is refused then. "
                @if shown.own { "It is of your own session, so another reviewer decides." }
                @else if !shown.decides { "You are not one of its reviewers." }
            } @else {
                (capital(&escaped(&outcome(&hold.state, |at| moment(at, now))))) "."
            }
        }
        dl {
            dt { "Who" } dd { (person(&hold.identity)) }
            dt { "Access" }
            dd { (escaped(&shown.view.target)) " as " (escaped(&shown.view.role)) }
            dt { "Reason" } dd { (escaped(&shown.view.reason)) }
            dt { "Session" }
            dd {
                (hold.session) ", connection " (statement.connection)
                ", statement " (statement.statement)
            }
            dt { "Held" }
            dd { (escaped(&shown.view.why)) " (rule " (escaped(&shown.view.rule.to_string())) ")" }
            dt { "Reviewers" } dd { (escaped(&shown.view.reviewers.to_string())) }
            dt { "Asked" } dd { (moment(hold.raised_at, now)) }
            dt { "Planned" } dd { (escaped(&statement.estimate.to_string())) }
        }
        h2 { (capital(sent_as(statement.protocol))) " as it was sent" }
        pre { (text(&statement.sql)) }
        @if let Some(pretty) = shown.pretty { h2 { "Laid out" } pre { (text(pretty)) } }
        @if !statement.parameters.is_empty() {
            h2 { "With these values" }
            dl {
                @for (parameter, number) in statement.parameters.iter().zip(1..) {
                    dt { "$" (number) } dd { code { (bound_value(parameter, usize::MAX)) } }
                }
            }
        }
        @if shown.decides { (hold_form(site, visitor, shown.view)) }
    };
    document(site, &format!("Held statement {}", hold.id), Some(visitor), body).into_response()
}

fn hold_form(site: &Site, visitor: &Visitor, view: &HoldView) -> Markup {
    html! {
        h2 { "Your answer" }
        form method="post" action=(site.link(&Page::Hold(view.hold.id.clone()))) {
            (comment(visitor))
            button name="verb" value="approve" { "Approve once" }
            button name="verb" value="deny" { "Deny" }
            @if let Some(shape) = &view.statement.shape {
                p { "Or approve, for the rest of this session, every statement of this shape:" }
                pre { (text(&shape.text)) }
                p { "Fingerprint " code { (escaped(&shape.fingerprint)) } }
                button name="verb" value="approve_same" { "Approve for this session" }
            }
        }
    }
}

/// A request for a grant.
pub(super) fn grant(
    site: &Site,
    visitor: &Visitor,
    grant: &Grant,
    decides: bool,
    now: Timestamp,
) -> Response {
    let pending = matches!(grant.state, State::Pending { .. });
    let said = |what: &str, decision: &Decision| {
        let comment = match decision.comment.as_str() {
            "" => String::new(),
            comment => format!(": {comment}"),
        };
        escaped(&format!("{what} by {}, {}{comment}", decision.by, moment(decision.at, now)))
    };
    let body = html! {
        p.state {
            @match &grant.state {
                State::Pending { needed, approvals } => {
                    "It waits until " (moment(grant.lapses_at, now)) ", with "
                    (approvals.len()) " of " (needed) " approvals."
                }
                State::Active { expires_at, .. } => {
                    "It is active until " (moment(*expires_at, now)) "."
                }
                State::Denied { decision } => (capital(&said("denied", decision))),
                State::Revoked { decision } => (capital(&said("revoked", decision))),
                State::Expired { at } => { "It expired at " (moment(*at, now)) "." }
            }
        }
        dl {
            dt { "Who" } dd { (person(&grant.identity)) }
            dt { "Access" } dd { (escaped(&grant.target)) " as " (escaped(&grant.role)) }
            dt { "For" } dd { (lasting(grant.ttl_seconds)) }
            dt { "Reason" } dd { (escaped(&grant.reason)) }
            dt { "Asked" } dd { (moment(grant.requested_at, now)) }
            @if let State::Pending { approvals, .. } | State::Active { approvals, .. } = &grant.state {
                @for decision in approvals {
                    dt { "Answer" } dd { (said("approved", decision)) }
                }
            }
        }
        @if pending && decides {
            h2 { "Your answer" }
            form method="post" action=(site.link(&Page::Grant(grant.id.clone()))) {
                (comment(visitor))
                button name="verb" value="approve" { "Approve" }
                button name="verb" value="deny" { "Deny" }
            }
        }
    };
    document(site, &format!("Request {}", grant.id), Some(visitor), body).into_response()
}

fn comment(visitor: &Visitor) -> Markup {
    html! {
        input type="hidden" name="form" value=(visitor.form_token);
        p {
            label { "Comment" br; textarea name="comment" rows="2" maxlength="500" {} }
        }
    }
}

/// All that the issuer says of somebody.
fn person(identity: &Identity) -> Markup {
    html! {
        (escaped(&identity.to_string()))
        br; "subject " code { (escaped(&identity.subject)) }
        @if !identity.groups.is_empty() {
            br; "groups " (escaped(&identity.groups.join(", ")))
        }
        @for (name, value) in &identity.claims {
            br; (escaped(name)) " " code { (escaped(value)) }
        }
    }
}

fn text(text: &str) -> String {
    escaped_lines(text).collect::<Vec<_>>().join("\n")
}

fn beginning(sql: &str) -> String {
    let words = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = escaped(&words.chars().take(MOST_OF_STATEMENT).collect::<String>());
    if words.chars().nth(MOST_OF_STATEMENT).is_some() {
        shown.push('…');
    }
    shown
}

/// A moment by the clock that all readers share, and how far away it is.
fn moment(at: Timestamp, now: Timestamp) -> String {
    let shown = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("{shown} ({})", distance(at, now))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
