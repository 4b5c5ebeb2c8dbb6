//! A statement is of one tenant alone only if nothing in front of it in its request has been run: what that was may hold for
//! it without having been confirmed.

use super::separated::Stage;

/// The server has said that the setting was made, and the request goes on: it may still be taken back, and holds until then.
#[test]
fn what_a_server_was_asked_for_before_the_sync_is_not_certain_either() {
    let mut stage = Stage::new();
    let insert = "insert into mine (n) values ($1::int)";
    stage.kept("a request of one statement", |stage| {
        stage.one.parse("", insert).bind("", &["70"]).execute().sync().reply().ok();
    });
    stage.ended("a statement behind a Flush", |stage| {
        stage.one.parse("", "set app.tenant = '2'").bind("", &[]).execute().flush().send();
        stage.one.read_until('C');
        stage.one.parse("", insert).bind("", &["71"]).execute().sync().reply().ok();
        stage.one.query("set app.tenant = '1'").ok();
    });
    // It holds until the Sync, and nobody saw it.
    stage.ended("a statement behind a function and a Flush", |stage| {
        stage.one.parse("", "select sets('2')").bind("", &[]).execute().flush().send();
        stage.one.read_until('C');
        stage.one.parse("", insert).bind("", &["72"]).execute().sync().reply().ok();
    });
}

/// SQL has words of its own for a role.
#[test]
fn a_role_that_is_set_in_sqls_own_words_is_understood() {
    let mut stage = Stage::new();
    let mut login = stage.ground.client_of("parts_login");
    stage.kept("the catalog is read", |_| ());
    for role in ["set local role parts_tenant", "SET LOCAL ROLE 'parts_tenant';", "set local role \"parts_tenant\""] {
        let number = role.len();
        let mut say = |all: &[&str]| all.iter().for_each(|sql| drop(login.query(*sql).ok()));
        let began = ["begin", role, "set local app.tenant = '1'"];
        for kept in [false, true] {
            say(&began);
            let (_, hit) = stage.ground.asked(|| say(&["select id, n from mine order by id"]));
            assert!(hit || !kept, "{role}: {}", stage.ground.why());
            say(&["commit"]);
        }
        stage.kept(role, |_| {
            say(&began);
            say(&[&format!("insert into mine (n) values ({number})"), "commit"]);
        });
    }
}
