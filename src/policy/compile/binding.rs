//! Whether what a role covers by name is there. A column that was renamed would be
//! under no mask any more, and a renamed table under none of its own: so a role is
//! refused until its policy says what it means now.

use crate::{
    policy::{Pattern, Role, RuleRef},
    sql::Catalog,
};

/// Masked or hidden columns that the database doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policy masks or hides what this database doesn't have: {}; after a rename the column \
     would be shown as it is",
    told(.0)
)]
pub struct Unbound(Vec<(String, RuleRef)>);

fn told(absent: &[(String, RuleRef)]) -> String {
    absent.iter().map(|(column, rule)| format!("{column} ({rule})")).collect::<Vec<_>>().join(", ")
}

/// Looks for every column that a mask or `hide` names in full. One with `*` in it may
/// well fit nothing.
///
/// # Errors
/// All that aren't there.
pub fn bound(role: &Role, catalog: &Catalog) -> Result<(), Unbound> {
    let masks = role
        .mask
        .iter()
        .flat_map(|mask| mask.columns.iter().map(|pattern| (pattern, mask.source.clone())));
    let hidden = role.hide.iter().enumerate().map(|(at, pattern)| {
        (pattern, RuleRef { rule: format!("role.{}.hide[{at}]", role.name), place: None })
    });
    let absent = masks
        .chain(hidden)
        .filter(|(pattern, _)| pattern.is_exact() && !is_there(pattern, catalog))
        .map(|(pattern, rule)| (pattern.to_string(), rule))
        .collect::<Vec<_>>();
    if absent.is_empty() { Ok(()) } else { Err(Unbound(absent)) }
}

fn is_there(pattern: &Pattern, catalog: &Catalog) -> bool {
    catalog.relations().any(|relation| {
        let names = |column| [relation.schema.as_str(), relation.name.as_str(), column];
        relation.columns.iter().any(|column| pattern.matches(&names(column.name.as_str())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    #[test]
    fn a_name_that_is_gone_closes_the_role_and_a_pattern_that_fits_nothing_does_not() {
        let text = r#"
            [target.test]
            url = "postgres://127.0.0.1:5432/test?sslmode=disable"
            credential = { kind = "static", user = "app", password = "env:UNUSED" }
            [role.reader]
            targets = ["test"]
            allow = [{ actions = ["select"], on = ["shop.*"] }]
            mask = [{ columns = ["shop.customers.email", "*.*.iban"], with = "redact" }]
            hide = ["shop.customers.hash"]
            "#;
        let policy = parse(&[("test.toml".into(), text.into())]).expect("it is well written");
        let role = &policy.roles["reader"];
        let with = |table: &str, columns: &[(&str, &str)]| {
            bound(role, &Catalog::builder().table(table, columns).build())
        };
        let (email, hash) = (("email", "text"), ("hash", "text"));
        assert_eq!(with("shop.customers", &[email, hash]), Ok(()));
        for (table, columns, gone) in [
            ("shop.customers", [("mail", "text"), hash], "customers.email (role.reader.mask[0]"),
            ("shop.customers", [email, ("digest", "text")], "customers.hash (role.reader.hide[0])"),
            ("shop.clients", [email, hash], "customers.hash"),
        ] {
            let refusal = with(table, &columns).expect_err(gone).to_string();
            assert!(refusal.contains(gone), "{refusal}");
        }
    }
}
