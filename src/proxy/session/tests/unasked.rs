//! What the server says unasked: notifications, and its end.

use super::*;

#[test]
fn a_notification_is_logged_and_a_role_with_masks_learns_only_that_it_came() {
    let sent = message(b'A', b"\0\0\0\x07orders\0shown\0");
    for (masks, got) in [(false, sent.clone()), (true, message(b'A', b"\0\0\0\x07orders\0\0"))] {
        let mut rig = Rig::new(masks);
        rig.server(&sent);
        assert_eq!(rig.to_client, got);
        let Record::Notification { channel, process, bytes, shown, .. } = &rig.records[0] else {
            panic!("{:?}", rig.records)
        };
        assert_eq!((channel.as_str(), *process, *bytes, *shown), ("orders", 7, 5, !masks));
    }
    for cut in
        [&b"\0\0\0\x07orders\0shown"[..], b"\0\0\0", b"\0\0\0\x07o\0s\0x", b"\0\0\0\x07\xff\0\0"]
    {
        let mut rig = Rig::new(true);
        rig.server(&message(b'A', cut));
        assert_eq!(first_error(&rig.to_client).sqlstate(), "08P01");
    }
}

#[test]
fn what_runs_when_the_server_goes_has_that_as_its_outcome() {
    let fatal = message(b'E', b"SFATAL\0C57P01\0Mterminating\0\0");
    for (words, sqlstate) in [(Some(fatal), "57P01"), (None, "08006")] {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT 1"));
        rig.server(&[row_description(0, 0), row(b"x")].concat());
        if let Some(words) = words {
            rig.server(&words);
        }
        rig.session.server_gone();
        rig.settle();
        let outcomes: Vec<_> =
            rig.completions().iter().map(|done| (done.rows, done.sqlstate.clone())).collect();
        assert_eq!(outcomes, [(1, Some(sqlstate.to_owned()))]);
        assert_eq!(first_error(&rig.to_client).sqlstate(), sqlstate);
        assert!(rig.closed.is_some() && rig.cancels == 0);
    }
}
