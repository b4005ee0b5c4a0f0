//! The hosts in a PostgreSQL URL: libpq's `postgres://one:5432,two:5433/db` names several,
//! which the URL standard doesn't know (PostgreSQL manual, 34.1.1.3).

use std::ops::Range;

/// Where the hosts stand in a URL's text: behind a user and password, before the path. None
/// where the text has no `//`.
pub fn host_list(url: &str) -> Option<Range<usize>> {
    let (scheme, rest) = url.split_once("://")?;
    let first = scheme.len() + 3;
    let authority = rest.split(['/', '?', '#']).next()?;
    // As the URL standard has it: a password may hold what should have been escaped.
    let login = authority.rfind('@').map_or(0, |at| at + 1);
    Some(first + login..first + authority.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_wherever_they_stand() {
        let cases = [
            ("postgres://one/db", Some("one")),
            ("postgres://one:1,two:2/db?sslmode=require", Some("one:1,two:2")),
            ("postgres://ana:a,b@[::1]:1,%2Ftmp,:5/db", Some("[::1]:1,%2Ftmp,:5")),
            ("postgres://ana:p@ss@one?x=a@b", Some("one")),
            ("postgres:///db", Some("")),
            ("postgres:one,two", None),
        ];
        for (url, hosts) in cases {
            assert_eq!(host_list(url).map(|range| &url[range]), hosts, "{url}");
        }
    }
}
