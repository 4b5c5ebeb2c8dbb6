//! The admin port: who may use it, and where it may be.

use super::*;

const TLS: &str = "tls_cert_file = 'c'\ntls_key_file = 'k'\n";

fn admin(text: &str) -> Admin {
    read(&format!("{BASE}{text}")).admin.unwrap()
}

fn wrong(text: &str) -> String {
    let mistakes = Settings::from_toml(&format!("{BASE}{text}"), &Overrides::default(), &Files).unwrap_err();
    assert_eq!(mistakes.iter().count(), 1, "{text}\n{mistakes}");
    mistakes.to_string()
}

#[test]
fn a_reload_never_opens_a_public_admin_port() {
    let public = read(&format!("{BASE}[admin]\nlisten = '0.0.0.0:1'\ntoken = 't'\n{TLS}"));
    // Each of these would be allowed where it says that it is.
    for less in [
        "[admin]\nlisten = '127.0.0.1:1'\n".to_owned(),
        "[admin]\nlisten = '127.0.0.1:1'\ntoken = 't'\n".to_owned(),
        format!("[admin]\nlisten = '127.0.0.1:1'\n{TLS}"),
        "[admin]\nlisten = 'off'\n".to_owned(),
    ] {
        let in_force = read(&format!("{BASE}{less}")).without_restart(&public);
        assert_eq!(in_force.admin, public.admin, "{less}");
    }
    let other = read(&format!("{BASE}[admin]\nlisten = '0.0.0.0:1'\ntoken = 'u'\n{TLS}")).without_restart(&public);
    assert_eq!(other.admin.unwrap().tokens[0].digest, TokenDigest::of(b"u"));
}

#[test]
fn a_port_that_others_can_reach_needs_tokens_and_tls() {
    let public = "[admin]\nlisten = '0.0.0.0:1'\n";
    assert!(wrong(public).contains("has no token; set admin.token"));
    assert!(wrong(&format!("{public}{TLS}")).contains("has no token"));
    assert!(wrong(&format!("{public}cleartext_beyond_loopback = true\n")).contains("has no token"));
    let clear = wrong(&format!("{public}token = 't'\n"));
    assert!(clear.contains("in clear text; set admin.tls_cert_file"), "{clear}");
    assert!(admin(&format!("{public}token = 't'\n{TLS}")).guards_network());
    let by_table = format!("{public}{TLS}[admin.access.a]\nrole = 'viewer'\ntoken = 't'\n");
    assert!(admin(&by_table).guards_network());
    assert!(wrong("[admin]\ntls_cert_file = 'c'\n").contains("add tls_key_file"));
    assert!(wrong("[admin]\ntls_key_file = 'k'\n").contains("add tls_cert_file"));

    let long = "x".repeat(32);
    let warnings = |text: &str| read(&format!("{BASE}{text}")).warnings();
    assert_eq!(warnings(&format!("{public}token = '{long}'\n{TLS}")), Vec::<String>::new());
    let said = warnings(&format!("{public}token = 't'\ncleartext_beyond_loopback = true\n"));
    assert!(said[0].starts_with("admin.cleartext_beyond_loopback: whoever sees the network"), "{said:?}");
    assert!(said[1].starts_with("admin: the token of admin.token has fewer than 32"), "{said:?}");
    assert!(warnings("[admin]\ntoken = 't'\ncleartext_beyond_loopback = true\n").is_empty(), "nobody else gets there");
}

#[test]
fn tokens_have_names_roles_and_nothing_of_themselves() {
    let digest = TokenDigest::of(b"of grafana");
    let all = admin(&format!(
        "[admin]\ntoken = 'the first'\n[admin.access.grafana]\nrole = 'viewer'\ntoken_sha256 = '{}'\n\
         [admin.access.anna]\nrole = 'operator'\ntoken = '${{PGWEIR_TEST_ANNA}}'\n\
         [admin.access.desk]\nrole = 'tenant'\ntenant = 'acme'\ntoken_file = 'f'\n\
         [admin.tenant_token.old]\ntenant = 'globex'\ntoken = '2'\n",
        digest.hex()
    ));
    let seen: Vec<_> = all.tokens.iter().map(|token| (&*token.name, token.role.word(), token.role.tenant())).collect();
    let expected = [
        ("admin.token", "operator", None),
        ("anna", "operator", None),
        ("desk", "tenant", Some("acme")),
        ("grafana", "viewer", None),
        ("old", "tenant", Some("globex")),
    ];
    assert_eq!(seen, expected);
    assert_eq!(all.tokens[1].digest, TokenDigest::of(b"value of PGWEIR_TEST_ANNA"));
    assert_eq!(all.tokens[3].digest, digest);
    assert!(!format!("{all:?}").contains("the first"));
}

#[test]
fn mistakes_with_tokens_say_what_to_do() {
    let access = |name: &str, rest: &str| format!("[admin.access.{name}]\n{rest}\n");
    let first = "[admin]\ntoken = 't'\n";
    for (text, said) in [
        (access("a", "token = '1'"), "has no role; add role"),
        (access("a", "role = 'viewer'"), "has no token; add token"),
        (
            access("a", &format!("role = 'viewer'\ntoken = '1'\ntoken_sha256 = '{}'", "0f".repeat(32))),
            "stands beside token",
        ),
        (access("a", "role = 'viewer'\ntoken_sha256 = 'abc'"), "is no SHA-256"),
        (access("a", "role = 'viewer'\ntoken = '1'\ntenant = 'acme'"), "for role = \"tenant\" alone"),
        (access("a", "role = 'tenant'\ntoken = '1'"), "names no tenant"),
        (access("a", "role = 'tenant'\ntenant = '(others)'\ntoken = '1'"), "name one tenant"),
        (access("a", "role = 'viewer'\ntoken = 't'"), "is the same as another token"),
        (
            access("a", &format!("role = 'viewer'\ntoken_sha256 = '{}'", TokenDigest::of(b"t").hex())),
            "is the same as another token",
        ),
        (
            access("a", "role = 'viewer'\ntoken = '1'") + "[admin.tenant_token.a]\ntenant = 'b'\ntoken = '2'\n",
            "stands in admin.access too",
        ),
    ] {
        let mistake = wrong(&format!("{first}{text}"));
        assert!(mistake.contains(said), "{mistake}");
    }
    let refused = Settings::from_toml(
        &format!("{BASE}{first}{}", access("a", "role = 'root'\ntoken = '1'")),
        &Overrides::default(),
        &Files,
    );
    assert!(refused.unwrap_err().to_string().contains("viewer"));
    assert!(wrong(&access("a", "role = 'tenant'\ntenant = 'b'\ntoken = '1'")).contains("set admin.token"));
}

#[test]
fn tokens_of_tenants_need_one_that_sees_all_and_are_told_apart() {
    let first = "[admin]\ntoken = 't'\n";
    let own = |name: &str, tenant: &str, token: &str| {
        format!("[admin.tenant_token.{name}]\ntenant = '{tenant}'\ntoken = '{token}'\n")
    };
    let both = admin(&format!("{first}{}{}", own("a", "acme", "1"), own("b", "acme", "2")));
    let seen: Vec<_> = both.tokens[1..].iter().map(|own| (&*own.name, own.role.tenant(), own.digest)).collect();
    let digest = |token: &str| TokenDigest::of(token.as_bytes());
    assert_eq!(seen, [("a", Some("acme"), digest("1")), ("b", Some("acme"), digest("2"))]);
    for (text, said) in [
        (own("a", "acme", "1"), "set admin.token"),
        (format!("{first}{}", own("a", "acme", "t")), "is the same as another token"),
        (format!("{first}{}{}", own("a", "acme", "1"), own("b", "globex", "1")), "is the same as another token"),
        (format!("{first}{}", own("a", "(others)", "1")), "name one tenant"),
        (format!("{first}[admin.tenant_token.a]\ntoken = '1'\n"), "names no tenant"),
        (format!("{first}[admin.tenant_token.a]\ntenant = 'acme'\n"), "has no token"),
    ] {
        let mistake = wrong(&text);
        assert!(mistake.contains(said), "{mistake}");
    }
    let by_viewer = format!("[admin.access.v]\nrole = 'viewer'\ntoken = '0'\n{}", own("a", "acme", "1"));
    assert_eq!(admin(&by_viewer).tokens.len(), 2, "a viewer sees all too");
    // What is taken away is gone with the next request, and a reload that is not taken keeps them.
    let running = read(&format!("{BASE}{first}{}", own("a", "acme", "1")));
    let fewer = read(&format!("{BASE}{first}")).without_restart(&running);
    assert_eq!(fewer.admin.unwrap().tokens.len(), 1);
}

#[test]
fn changes_of_access_are_named_and_their_tokens_are_not_shown() {
    let with = |role: &str, token: &str| {
        read(&format!("{BASE}[admin]\ntoken = 't'\n[admin.access.a]\nrole = '{role}'\ntoken = '{token}'\n"))
    };
    let changes = Changes::between(&with("viewer", "1"), &with("operator", "2"));
    assert_eq!(keys(&changes.at_once), ["admin.access.a.role", "admin.access.a.token"]);
    assert!(changes.at_once[1].values.is_none() && changes.restart.is_empty());
}
