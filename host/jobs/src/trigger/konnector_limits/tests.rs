use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::trigger::{NewTrigger, ParseContext, TriggerPatch};

fn now() -> DateTime<Utc> {
    "2026-11-20T12:00:00Z".parse().expect("a date")
}

fn schedule(kind: &str, arguments: &str) -> Schedule {
    let context = ParseContext { created: now(), zone: chrono_tz::Tz::Europe__Paris, seed: "" };
    match TriggerPlan::parse(kind, arguments, context) {
        Ok(TriggerPlan::Time(schedule)) => schedule,
        other => panic!("{arguments}: {other:?}"),
    }
}

#[test]
fn the_shortest_interval_is_found_wherever_it_is() {
    for (kind, arguments, seconds) in [
        ("@cron", "0 5 * * *", Some(86_400)),
        ("@cron", "0 * * * *", Some(3_600)),
        ("@cron", "0 0,1 1 1 *", Some(3_600)),
        ("@cron", "0,30 3 * * 0", Some(1_800)),
        ("@cron", "59 * * * *", Some(3_600)),
        ("@cron", "* 3 1 1 *", Some(60)),
        ("@cron", "0,1 0 0 1 1 *", Some(1)),
        ("@cron", "*/3 * * * * *", Some(3)),
        ("@every", "59m59s", Some(3_599)),
        ("@every", "1h", Some(3_600)),
        ("@cron", "@hourly", Some(3_600)),
        ("@weekly", "on monday before 9am", Some(7 * 86_400)),
        ("@in", "1s", None),
        ("@at", "2020-01-01T00:00:00Z", None),
    ] {
        let found = shortest_interval(&schedule(kind, arguments), now()).map(|interval| interval.as_secs());
        assert_eq!(found, seconds, "{kind} {arguments}");
    }
}

proptest! {
    /// For any crontab, if a schedule passes the check, its runs are as far apart over a year and a half as the check
    /// found.
    #[test]
    fn no_crontab_hides_a_burst(
        minutes in prop::collection::btree_set(0..60_u8, 1..4),
        hours in prop::collection::btree_set(0..24_u8, 1..5),
        days in prop::option::of(prop::collection::btree_set(1..29_u8, 1..4)),
        weekdays in prop::option::of(prop::collection::btree_set(0..7_u8, 1..4)),
    ) {
        let list = |values: &std::collections::BTreeSet<u8>| {
            values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
        };
        let star = |values: &Option<std::collections::BTreeSet<u8>>| values.as_ref().map_or_else(|| "*".to_owned(), list);
        let text = format!("{} {} {} * {}", list(&minutes), list(&hours), star(&days), star(&weekdays));
        let Schedule::Cron(crontab, _) = schedule("@cron", &text) else { panic!("{text}") };
        let schedule = Schedule::Cron(crontab, chrono_tz::Tz::UTC);
        let found = shortest_interval(&schedule, now()).is_some_and(|interval| interval < MIN_INTERVAL);
        let instants: Vec<_> =
            std::iter::successors(schedule.first_due(now()), |due| schedule.next(*due, *due)).take(600).collect();
        let bursts = instants.windows(2).any(|pair| (pair[1] - pair[0]).to_std().is_ok_and(|gap| gap < MIN_INTERVAL));
        prop_assert_eq!(found, bursts, "{}", text);
    }
}

#[tokio::test]
async fn a_konnector_plans_a_few_runs_of_itself_and_not_often() {
    let site = crate::trigger::tests::fixture().await;
    let slug: Slug = "bank".parse().expect("a slug");
    let create = async |kind: &str, arguments: &str, message: serde_json::Value, debounce: Option<&str>| {
        let new = NewTrigger {
            kind: kind.to_owned(),
            arguments: arguments.to_owned(),
            worker: KONNECTOR_WORKER.to_owned(),
            message,
            debounce: debounce.map(|text| text.parse().expect("a duration")),
            created_by_konnector: Some(slug.clone()),
            ..NewTrigger::default()
        };
        site.context.triggers().create(&site.alice, new).await
    };
    let own = || json!({ "konnector": "bank", "account": "a" });
    let mut told = Vec::new();
    for (kind, arguments, message, debounce) in [
        ("@cron", "0 5 * * *", json!({ "konnector": "shop" }), None),
        ("@webhook", "", own(), None),
        ("@client", "", own(), None),
        ("@event", "io.cozy.bills", own(), None),
        ("@event", "io.cozy.bills", own(), Some("4m59s")),
        ("@cron", "*/5 * * * *", own(), None),
        ("@every", "30m", own(), None),
    ] {
        told.push(create(kind, arguments, message, debounce).await.expect_err(arguments).to_string());
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    a konnector can schedule only its own runs; put "konnector": "bank" into the message
    a konnector cannot create a @webhook, because its URL gives others access
    a konnector can schedule only its own runs; put "konnector": "bank" into the message
    the events of a konnector's trigger must be collected for at least 5 minutes; set debounce to "5m" or more
    the events of a konnector's trigger must be collected for at least 5 minutes; set debounce to "5m" or more
    a konnector must schedule its runs at least 60 minutes apart, as in its manifest
    a konnector must schedule its runs at least 60 minutes apart, as in its manifest
    "#);
    for number in 0..MAX_TRIGGERS_BY_KONNECTOR {
        let (kind, arguments, debounce) = match number {
            0 => ("@event", "io.cozy.bills", Some("5m")),
            1 => ("@in", "1s", None),
            _ => ("@every", "1h", None),
        };
        create(kind, arguments, own(), debounce).await.expect(arguments);
    }
    let refused = create("@every", "1h", own(), None).await.expect_err("too many");
    insta::assert_snapshot!(refused.to_string(), @"bank has created 10 triggers, which is the maximum for a konnector; delete one first");
    // Fired triggers make room; the number of requests per hour is counted anyway.
    let mut made = MAX_TRIGGERS_BY_KONNECTOR;
    let end = loop {
        for id in site.context.triggers().list_created_by_konnector(&site.alice, &slug).expect("read") {
            site.context.triggers().delete(&site.alice, &id).await.expect("deleted");
        }
        match create("@in", "1s", own(), None).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(made, 20);
    insta::assert_snapshot!(end.to_string(), @"the limit of 20 per hour for one konnector is reached; try again after 2026-11-20T13:00:00Z");
    assert!(matches!(end, Error::RetryLater { .. }));
}

/// A user's schedule cannot be made faster or changed to another type.
#[tokio::test]
async fn a_konnector_changes_no_schedule_to_a_faster_one() {
    let site = crate::trigger::tests::fixture().await;
    let slug: Slug = "bank".parse().expect("a slug");
    let new = |slug: &str| NewTrigger {
        kind: "@cron".to_owned(),
        arguments: "0 5 * * *".to_owned(),
        worker: KONNECTOR_WORKER.to_owned(),
        message: json!({ "konnector": slug, "account": "a" }),
        ..NewTrigger::default()
    };
    let own = site.context.triggers().create(&site.alice, new("bank")).await.expect("made").id;
    let foreign = site.context.triggers().create(&site.alice, new("shop")).await.expect("made").id;
    let patch = async |id: &str, change: &dyn Fn(&mut TriggerPatch)| {
        let mut patch = TriggerPatch { by_konnector: Some(slug.clone()), ..TriggerPatch::default() };
        change(&mut patch);
        site.context.triggers().patch(&site.alice, id, patch).await
    };
    let crontab = |text: &'static str| move |patch: &mut TriggerPatch| patch.arguments = Some(text.to_owned());
    let message = |value: serde_json::Value| move |patch: &mut TriggerPatch| patch.message = Some(value.clone());
    assert!(matches!(patch(&own, &crontab("* * * * * *")).await, Err(Error::InvalidAttribute { .. })));
    assert!(matches!(patch(&own, &message(json!({ "konnector": "shop" }))).await, Err(Error::Forbidden(_))));
    assert!(matches!(patch(&foreign, &message(json!({ "konnector": "bank" }))).await, Err(Error::Forbidden(_))));
    assert!(matches!(patch(&own, &|_| {}).await, Err(Error::BadRequest(_))), "nothing to change");
    patch(&own, &crontab("0 6 * * *")).await.expect("another hour");
    patch(&own, &message(json!({ "konnector": "bank", "folder": "f" }))).await.expect("another message");
}
