use super::*;

fn too_many(limit: Limit) -> Refusal {
    Refusal::TooManyClients { database: "shop".into(), user: "anna".into(), limit }
}

fn limited(key: LimitKey) -> Limited {
    Limited { tenant: "acme".into(), class: "".into(), key, rule: "[tenant.limits.acme]".into() }
}

fn timed_out(key: LimitKey) -> Refusal {
    Refusal::StatementTimeout { limited: limited(key), limit: Duration::from_millis(1500) }
}

fn too_much(key: LimitKey) -> Refusal {
    Refusal::TooMany { limited: limited(key), limit: 7, retry_in: Some(Duration::from_micros(2_500)) }
}

fn not_allowed(key: LimitKey, what: &str) -> Refusal {
    Refusal::NotAllowed { limited: limited(key), what: what.into() }
}

fn silent(key: LimitKey) -> Refusal {
    Refusal::Silent { limited: limited(key), limit: Duration::from_secs(60) }
}

fn queue_timeout(limit: Limit, limited: Option<Box<Limited>>) -> Refusal {
    let (database, user) = ("shop".into(), "anna".into());
    Refusal::QueueTimeout { database, user, waited: Duration::from_secs(5), limit, waiting: 7, limited }
}

fn queue_full() -> Refusal {
    let (database, user) = ("shop".into(), "anna".into());
    let retry_in = Duration::from_micros(1_500_250);
    Refusal::Queue(QueueRefusal { database, user, waiting: 40, limit: 40, retry_in })
}

#[test]
fn a_full_queue_is_told_with_when_to_come_again() {
    let report = queue_full().report();
    let (detail, hint) = (report.detail.unwrap_or_default(), report.hint.unwrap_or_default());
    assert!(detail.contains("\"shop\"") && detail.contains("40 clients") && detail.contains("no more than 40"));
    assert!(hint.starts_with("Retry after 1s500ms."), "{hint}");
}

/// One of each variant, with its SQLSTATE.
fn all() -> Vec<(&'static str, Severity, Refusal)> {
    let name = |text: &str| Box::<str>::from(text);
    let limit = Duration::from_secs(5);
    vec![
        ("0A000", Severity::Error, Refusal::TransactionBlock { database: name("shop") }),
        ("57014", Severity::Error, timed_out(LimitKey::StatementTimeout)),
        ("57014", Severity::Error, timed_out(LimitKey::RequestTimeout)),
        ("57014", Severity::Error, timed_out(LimitKey::TransactionTimeout)),
        ("53300", Severity::Fatal, too_much(LimitKey::MaxClients)),
        ("53400", Severity::Error, too_much(LimitKey::MaxWaiting)),
        ("53400", Severity::Error, too_much(LimitKey::MaxStatements)),
        ("53400", Severity::Error, too_much(LimitKey::StatementRate)),
        ("53400", Severity::Error, too_much(LimitKey::RowLimit)),
        ("53400", Severity::Error, too_much(LimitKey::MaxRows)),
        ("53400", Severity::Error, too_much(LimitKey::MaxBytes)),
        ("25006", Severity::Error, not_allowed(LimitKey::ReadOnly, "")),
        ("42501", Severity::Error, not_allowed(LimitKey::Tables, "users")),
        ("42501", Severity::Error, not_allowed(LimitKey::Tables, "")),
        ("42501", Severity::Error, not_allowed(LimitKey::Blocked, "")),
        ("25P03", Severity::Fatal, silent(LimitKey::IdleInTransactionTimeout)),
        ("25P04", Severity::Fatal, silent(LimitKey::TransactionTimeout)),
        ("57P05", Severity::Fatal, silent(LimitKey::IdleTimeout)),
        ("57014", Severity::Error, Refusal::CancelledInQueue),
        ("53300", Severity::Error, queue_timeout(Limit::Pool(20), None)),
        ("53300", Severity::Error, queue_timeout(Limit::Class(2), Some(Box::new(limited(LimitKey::QueueTimeout))))),
        ("53300", Severity::Error, queue_full()),
        ("53300", Severity::Fatal, too_many(Limit::Proxy(100))),
        ("53300", Severity::Fatal, Refusal::TooManyPools { limit: 100 }),
        ("53300", Severity::Fatal, Refusal::ShortOfMemory { limit: 1 << 30 }),
        ("55000", Severity::Fatal, Refusal::DatabaseDisabled { database: name("shop") }),
        ("57P01", Severity::Fatal, Refusal::DatabaseRemoved { database: name("shop") }),
        ("57P01", Severity::Fatal, Refusal::Killed),
        ("57P01", Severity::Fatal, Refusal::Terminated),
        ("25P03", Severity::Fatal, Refusal::IdleInTransaction { limit }),
        ("57P01", Severity::Fatal, Refusal::ShuttingDown),
        ("57P03", Severity::Error, Refusal::Unavailable { database: name("shop"), retry_in: limit }),
        ("57P03", Severity::Error, Refusal::NoneFits { database: name("shop"), wanted: config::SessionAttrs::Primary }),
        ("08001", Severity::Error, Refusal::CannotConnect { database: name("shop"), failure: ConnectFailure::Refused }),
        ("08006", Severity::Error, Refusal::UpstreamLost { database: name("shop"), in_transaction: false }),
        ("08006", Severity::Fatal, Refusal::UpstreamLost { database: name("shop"), in_transaction: true }),
        ("28P01", Severity::Fatal, Refusal::PasswordFailed { user: name("anna") }),
        ("28000", Severity::Fatal, Refusal::PlaintextRefused { user: name("anna") }),
        ("28000", Severity::Fatal, Refusal::NotSecured { user: name("anna"), lack: SecurityLack::Tls }),
        ("28000", Severity::Fatal, Refusal::NotSecured { user: name("anna"), lack: SecurityLack::Certificate }),
        ("28000", Severity::Fatal, Refusal::NotSecured { user: name("anna"), lack: SecurityLack::OwnCertificate }),
        ("28000", Severity::Fatal, Refusal::NoUser),
        ("28000", Severity::Fatal, rule(true, false)),
        ("28000", Severity::Fatal, rule(false, true)),
        ("28000", Severity::Fatal, Refusal::Login(LoginRefusal::Certificate { user: name("anna") })),
        ("28000", Severity::Fatal, Refusal::Login(LoginRefusal::Peer { user: name("anna") })),
        ("28000", Severity::Fatal, Refusal::Login(LoginRefusal::LookUp { user: name("anna") })),
        ("53400", Severity::Fatal, Refusal::Login(LoginRefusal::Failures { retry_in: limit })),
        ("53300", Severity::Fatal, Refusal::Login(LoginRefusal::Logins { limit: 7, address: false })),
        ("53300", Severity::Fatal, Refusal::Login(LoginRefusal::Logins { limit: 7, address: true })),
        ("53300", Severity::Fatal, Refusal::Login(LoginRefusal::NoTrial { limit: 7 })),
        ("42501", Severity::Fatal, Refusal::Login(LoginRefusal::Console { user: "bob".into() })),
        ("53300", Severity::Fatal, Refusal::Login(LoginRefusal::ConsoleFull { limit: 32 })),
        ("57014", Severity::Fatal, Refusal::LoginTimeout { limit }),
        ("3D000", Severity::Fatal, Refusal::UnknownDatabase { database: name("shop") }),
        (
            "22023",
            Severity::Error,
            Refusal::RefusedSetting { name: name("statement_timeout"), tenant: name("acme"), limit },
        ),
        ("53400", Severity::Error, Refusal::TooManyStatements { limit: 100, bytes: false }),
        ("53400", Severity::Error, Refusal::TooManyStatements { limit: 1024, bytes: true }),
        ("0A000", Severity::Error, Refusal::NotInThisMode { state: SessionState::Listen, mode: PoolMode::Transaction }),
        ("54000", Severity::Error, Refusal::Listen(ListenRefusal::TooManyChannels { limit: 1000 })),
        ("57P03", Severity::Error, Refusal::Listen(ListenRefusal::NotReady { database: name("shop"), waited: limit })),
        ("53400", Severity::Fatal, Refusal::Listen(ListenRefusal::TooSlow { limit: 8 << 20 })),
        ("08006", Severity::Fatal, Refusal::Listen(ListenRefusal::Lost { database: name("shop") })),
        ("08P01", Severity::Fatal, Refusal::ProtocolViolation { what: name("a message is longer than it says") }),
    ]
}

fn rule(encrypted: bool, rejected: bool) -> Refusal {
    let (host, user, database) = ("192.0.2.7".into(), "anna".into(), "shop".into());
    Refusal::Login(LoginRefusal::Rule { host, user, database, encrypted, rejected })
}

#[test]
fn a_rule_that_keeps_out_is_told_as_postgres_tells_it() {
    assert_eq!(
        rule(false, false).report().message,
        "no pg_hba.conf entry for host \"192.0.2.7\", user \"anna\", database \"shop\", no encryption"
    );
}

#[test]
fn codes_and_severities_are_those_that_clients_act_on() {
    for (code, severity, refusal) in all() {
        let report = refusal.report();
        assert_eq!((report.code, report.severity), (code, severity), "{refusal:?}");
    }
}

#[test]
fn every_refusal_has_words_of_its_own() {
    let mut messages = std::collections::BTreeSet::new();
    for (_, _, refusal) in all() {
        let report = refusal.report();
        assert_ne!(report.message, "request refused", "{refusal:?} fell through the catalogue");
        assert!(!report.message.ends_with('.'), "{}", report.message);
        for text in report.detail.iter().chain(&report.hint) {
            assert!(text.ends_with('.') && text.starts_with(char::is_uppercase) || refusal.code() == "08P01", "{text}");
        }
        assert!(report.detail.is_some() || report.hint.is_some(), "{refusal:?}");
        messages.insert((report.message, report.detail));
    }
    assert_eq!(messages.len(), all().len());
}

#[test]
fn details_name_whom_it_concerns_and_the_figures() {
    let detail = |refusal: &Refusal| refusal.report().detail.unwrap();
    assert_eq!(
        detail(&timed_out(LimitKey::StatementTimeout)),
        "The limit of tenant \"acme\" is 1s500ms per statement (statement_timeout of [tenant.limits.acme])."
    );
    let of_class =
        Limited { class: "worker".into(), rule: "[tenant.class.worker]".into(), ..limited(LimitKey::StatementRate) };
    let rate = Refusal::TooMany { limited: of_class, limit: 7, retry_in: Some(Duration::from_micros(2_500)) }.report();
    assert_eq!(rate.message, "too many statements of tenant \"acme\" (class \"worker\") in a second");
    assert!(
        rate.hint.unwrap().starts_with("Retry in 3ms; an operator can change statement_rate of [tenant.class.worker]")
    );
    let waited = Duration::from_secs(10);
    assert_eq!(
        detail(&Refusal::QueueTimeout {
            database: "shop".into(),
            user: "anna".into(),
            waited,
            limit: Limit::Pool(20),
            waiting: 7,
            limited: None
        }),
        "Pool \"shop\" of user \"anna\": waited 10s, all 20 server connections are in use, 7 more clients are waiting."
    );
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let report = Refusal::PasswordFailed { user: "anna".into() }.report();
    assert_eq!(report.message, "password authentication failed for user \"anna\"");
    assert_eq!(report.detail, None);
}

#[test]
fn who_is_turned_away_is_told_by_which_limit() {
    let message = |limit| too_many(limit).report().message;
    assert_eq!(message(Limit::Proxy(5)), "too many clients already");
    assert_eq!(message(Limit::Database(5)), "too many connections for database \"shop\"");
    assert_eq!(message(Limit::User(5)), "too many connections for role \"anna\"");
    let (database, user, waited) = ("shop".into(), "anna".into(), Duration::from_secs(1));
    let timeout =
        Refusal::QueueTimeout { database, user, waited, limit: Limit::Proxy(40), waiting: 0, limited: None }.report();
    assert!(timeout.detail.unwrap().contains("all 40 server connections of the proxy are in use"));
    assert!(timeout.hint.unwrap().contains("raise max_upstreams or pool.queue_timeout"));
    let (database, user) = ("shop".into(), "anna".into());
    let limited = Some(Box::new(limited(LimitKey::QueueTimeout)));
    let limit = Limit::Class(2);
    let own = Refusal::QueueTimeout { database, user, waited, limit, waiting: 0, limited }.report();
    let detail = own.detail.unwrap();
    assert!(detail.contains("all 2 server connections of this tenant's class are in use"), "{detail}");
    assert!(
        detail.ends_with("No longer than that may tenant \"acme\" wait (queue_timeout of [tenant.limits.acme])."),
        "{detail}"
    );
    assert!(own.hint.unwrap().contains("raise max_upstreams of this class or queue_timeout of [tenant.limits.acme]."));
}
