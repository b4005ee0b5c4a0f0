//! What waits for a reviewer, and the answers to it.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Path, State, rejection::FormRejection},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;

use super::{Page, browser::Visitor, page, see};
use crate::{
    grant::{HoldState, Scope},
    server::{
        app::App,
        problem::Refusal,
        routes::{grants, holds},
    },
    sql,
};

/// A page for who has signed in; others sign in first.
async fn shown<F: Future<Output = Result<Response, Refusal>>>(
    app: &App,
    headers: &HeaderMap,
    page: Page,
    show: impl FnOnce(Visitor) -> F,
) -> Response {
    let shown = async {
        match Visitor::of(app, headers).await? {
            Some(visitor) => show(visitor).await,
            None => Ok(see(&app.site.sign_in_link(&page))),
        }
    };
    shown.await.unwrap_or_else(|refusal| page::refused(&app.site, &refusal))
}

pub(super) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let app = &app;
    shown(app, &headers, Page::Waiting, |visitor| async move {
        let inbox = grants::inbox_of(app, &visitor.identity).await?;
        Ok(page::list(&app.site, &visitor, &inbox, app.now()))
    })
    .await
}

pub(super) async fn hold(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let (app, id) = (&app, &id);
    shown(app, &headers, Page::of_key(id), |visitor| async move {
        let view = holds::seen_by(app, id, &visitor.identity).await?;
        let text = view.statement.sql.clone();
        // Laying out takes a parser's time. What it can't lay out is shown as it is.
        let pretty = tokio::task::spawn_blocking(move || sql::pretty(&text)).await;
        let pretty = pretty.ok().flatten().filter(|pretty| *pretty != view.statement.sql);
        let own = app.issuers.same_person(&view.hold.identity, &visitor.identity);
        let decides = !own
            && view.hold.state == HoldState::Waiting
            && view.reviewers.include(&visitor.identity);
        let shown = page::Shown { view: &view, pretty: pretty.as_deref(), own, decides };
        Ok(page::hold(&app.site, &visitor, &shown, app.now()))
    })
    .await
}

pub(super) async fn grant(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let (app, id) = (&app, &id);
    shown(app, &headers, Page::of_key(id), |visitor| async move {
        let (grant, decides) = grants::seen_by(app, id, &visitor.identity).await?;
        Ok(page::grant(&app.site, &visitor, &grant, decides, app.now()))
    })
    .await
}

/// A reviewer's answer, as its form sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    form: String,
    verb: Word,
    #[serde(default)]
    comment: String,
}

/// The button that was pressed.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Word {
    Approve,
    ApproveSame,
    Deny,
}

fn read(form: Result<Form<Answer>, FormRejection>) -> Result<Answer, Refusal> {
    let Form(answer) = form.map_err(|_| {
        Refusal::bad_request("bad_form", "the form can't be read")
            .hint("nothing was decided: open the page again, and answer there")
    })?;
    // A browser sends the line ends of a text area as CR LF.
    Ok(Answer { comment: answer.comment.replace("\r\n", "\n"), ..answer })
}

/// Takes an answer from who has signed in, by a form that is ours, and leads to the page of
/// what it was to.
async fn decided<F: Future<Output = Result<Page, Refusal>>>(
    app: &App,
    headers: &HeaderMap,
    form: Result<Form<Answer>, FormRejection>,
    decide: impl FnOnce(Visitor, Answer) -> F,
) -> Response {
    let decided = async {
        let answer = read(form)?;
        let visitor = Visitor::of_form(app, headers, &answer.form).await?;
        Ok(see(&app.site.link(&decide(visitor, answer).await?)))
    };
    decided.await.unwrap_or_else(|refusal| page::refused(&app.site, &refusal))
}

pub(super) async fn decide_hold(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Answer>, FormRejection>,
) -> Response {
    let (app, id) = (&app, &id);
    decided(app, &headers, form, |visitor, answer| async move {
        let verb = match answer.verb {
            Word::Approve => holds::Verb::Approve(Scope::Once),
            Word::ApproveSame => holds::Verb::Approve(Scope::SameStatements),
            Word::Deny => holds::Verb::Deny,
        };
        let view = holds::decide(app, id, visitor.identity, &answer.comment, verb).await?;
        Ok(Page::Hold(view.hold.id))
    })
    .await
}

pub(super) async fn decide_grant(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Answer>, FormRejection>,
) -> Response {
    let (app, id) = (&app, &id);
    decided(app, &headers, form, |visitor, answer| async move {
        let verb = match answer.verb {
            Word::Approve => grants::Verb::Approve,
            Word::Deny => grants::Verb::Deny,
            Word::ApproveSame => {
                return Err(Refusal::bad_request("bad_form", "a grant is approved or denied"));
            }
        };
        let grant = grants::decide(app, id, visitor.identity, &answer.comment, verb).await?;
        Ok(Page::Grant(grant.id))
    })
    .await
}
