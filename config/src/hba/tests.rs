use super::*;

const FILE: &str = r#"
# TYPE     DATABASE        USER            ADDRESS                 METHOD
local      all             postgres                                peer map=os
local      all             all                                     scram-sha-256
host       all             mallory         all                     reject
host       replication     standby         10.0.0.0/8              scram-sha-256
hostssl    all             /^svc_          all                     cert clientname=SAN map=svc
hostssl    app             all             10.0.0.0/8              scram-sha-256 clientcert=verify-ca
hostnossl  "all",shop      all             10.0.0.0/8              reject
host       app, /^tenant_\d+$  all         10.1.0.0 255.255.0.0    md5
host       sameuser        all             ::1/128                 trust
hostnogssenc all           all             samehost                password
host       postgres        "all"           192.0.2.7/32            passthrough
"#;

fn tcp(client: &str, encrypted: bool) -> Origin {
    Origin::Network { client: client.parse().unwrap(), ours: "10.1.0.1".parse().unwrap(), encrypted }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let hba = parse(FILE).unwrap();
    for (database, user, origin, line) in [
        ("app", "postgres", Origin::Local, Some(3)),
        ("app", "anna", Origin::Local, Some(4)),
        ("app", "mallory", tcp("10.1.2.3", true), Some(5)),
        ("app", "svc_mail", tcp("203.0.113.1", true), Some(7)),
        ("app", "svc_mail", tcp("10.1.2.3", false), Some(10)),
        ("app", "anna", tcp("10.9.9.9", true), Some(8)),
        ("app", "anna", tcp("::ffff:10.9.9.9", true), Some(8)),
        ("shop", "anna", tcp("10.9.9.9", false), Some(9)),
        ("all", "anna", tcp("10.9.9.9", false), Some(9)),
        ("other", "anna", tcp("10.9.9.9", false), None),
        ("tenant_7", "anna", tcp("10.1.9.9", true), Some(10)),
        ("tenant_7x", "anna", tcp("10.1.9.9", true), None),
        ("anna", "anna", tcp("::1", false), Some(11)),
        ("bob", "anna", tcp("::1", false), Some(12)),
        ("bob", "anna", tcp("10.1.0.1", false), Some(12)),
        ("bob", "anna", tcp("10.1.0.2", false), None),
        ("postgres", "all", tcp("192.0.2.7", false), Some(13)),
        ("postgres", "anna", tcp("192.0.2.7", false), None),
    ] {
        let visit = Visit { database, user, replication: false, origin };
        assert_eq!(hba.rule(&visit).map(|rule| rule.line), line, "{visit:?}");
    }
}

#[test]
fn physical_replication_has_to_be_named() {
    let hba = parse(FILE).unwrap();
    let visit =
        |user: &'static str, client: &str| Visit { database: "", user, replication: true, origin: tcp(client, false) };
    assert_eq!(hba.rule(&visit("standby", "10.0.0.2")).map(|rule| rule.line), Some(6));
    assert_eq!(hba.rule(&visit("anna", "10.0.0.2")), None, "all databases are not replication");
}

#[test]
fn a_rule_holds_what_was_written() {
    let hba = parse(FILE).unwrap();
    let by_line = |line: usize| hba.rules.iter().find(|rule| rule.line == line).unwrap().rule.clone();
    let rule = |method, map: Option<&str>, cert_name, client_cert| LoginRule {
        method,
        map: map.map(str::to_owned),
        cert_name,
        client_cert,
    };
    use CertName::{Alternative, CommonName};
    assert_eq!(by_line(3), rule(AuthMethod::Peer, Some("os"), CommonName, ClientCert::Any));
    assert_eq!(by_line(7), rule(AuthMethod::Cert, Some("svc"), Alternative, ClientCert::Any));
    assert_eq!(by_line(8), rule(AuthMethod::ScramSha256, None, CommonName, ClientCert::Valid));
    assert_eq!(by_line(12), rule(AuthMethod::Password, None, CommonName, ClientCert::Any));
    let named = parse("hostssl all all all trust clientcert=verify-full clientname=CN").unwrap();
    assert_eq!(named.rules[0].rule, rule(AuthMethod::Trust, None, CommonName, ClientCert::Named));
    let ident = parse("local all all ident").unwrap();
    assert_eq!(ident.rules[0].rule.method, AuthMethod::Peer);
}

#[test]
fn what_cannot_be_followed_is_told_and_never_passed_over() {
    for (line, words) in [
        ("hosst all all all trust", "begins with \"hosst\""),
        ("hostgssenc all all all trust", "GSSAPI"),
        ("include other.conf", "includes a file"),
        ("@names all all trust", "from a file"),
        ("local", "ends behind its type"),
        ("local all", "ends behind the database"),
        ("local all all", "ends before the method"),
        ("host all all trust", "has \"trust\" for its address"),
        ("host all all", "ends before the address"),
        ("local a,b all,c md5,trust", "has a list for the method"),
        ("local @dbs all trust", "from a file"),
        ("local all +staff trust", "members of a role"),
        ("local samerole all trust", "member of which role"),
        ("local all \"\" trust", "empty name for a user"),
        ("local /( all trust", "regular expression"),
        ("host all all samenet trust", "samenet"),
        ("host all all db.example trust", "host names are not looked up"),
        ("host all all 10.0.0.0/33 trust", "more bits"),
        ("host all all 10.0.0.1 trust", "without a mask; write 10.0.0.1/32"),
        ("host all all 10.0.0.0 255.0.255.0 trust", "gaps"),
        ("host all all ::1 255.0.0.0 trust", "different kinds"),
        ("host all all all ldap", "asks for the method \"ldap\"; the proxy knows passthrough"),
        ("host all all all gss", "asks for the method \"gss\""),
        ("host all all all ident", "asks for the method \"ident\""),
        ("host all all all peer", "peer is for local lines"),
        ("host all all all cert", "cert is for hostssl lines"),
        ("host all all all md5 clientcert=verify-ca", "clientcert is for hostssl"),
        ("hostssl all all all md5 clientcert=1", "write verify-ca or verify-full"),
        ("hostssl all all all cert clientcert=verify-ca", "always checks the name"),
        ("hostssl all all all cert clientname=DN", "write CN or SAN"),
        ("hostssl all all all cert map=", "has the option \"map\""),
        ("host all all all md5 map=x", "only peer and certificates use"),
        ("host all all all md5 why", "an option is name=value"),
        ("host all all all md5 ldapserver=x", "has the option \"ldapserver\""),
        ("local \"all all trust", "has a quote that is never closed"),
    ] {
        let told = parse(&format!("local all all trust\n{line}\n")).unwrap_err();
        assert_eq!(told[0].line, 2, "{line}");
        assert!(told.iter().any(|error| error.sentence.contains(words)), "{line}: {told:?}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let told = parse("host all all\n# fine\nlocal +a @b nope\nlocal all all trust\nhost all all x y\n").unwrap_err();
    let lines: Vec<usize> = told.iter().map(|error| error.line).collect();
    assert_eq!(lines, [1, 3, 3, 5], "{told:?}");
}

#[test]
fn no_text_makes_the_reader_stumble() {
    let parts =
        ["local", "host", "all", "\"", ",", "/", "(", "10.0.0.0", "/8", "\\", "\n", "#", " ", "map=", "é", "trust"];
    let mut state = 1_u32;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..8 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(parts[(state >> 16) as usize % parts.len()]);
            text.push_str(if state & 0x8000 == 0 { " " } else { "" });
        }
        drop(parse(&text));
        drop(crate::IdentMaps::parse(&text));
    }
}
