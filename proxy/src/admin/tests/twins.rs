//! Each page names the JSON that it was drawn from, and that is there for whoever sees the page.

use super::html::read;
use super::pages::{open, pages, port};

#[tokio::test]
async fn each_page_leads_to_its_json_and_that_is_open_to_whoever_sees_the_page() {
    let port = port(Some("t0ken")).await;
    let mut twins = std::collections::BTreeSet::new();
    for (token, least) in [("t0ken", 13), ("hunter-of-grafana", 12), ("hunter-of-acme", 7)] {
        let mut seen = 0;
        for page in pages() {
            for query in ["", "?period=1h", "?tenant=acme&period=15m"] {
                let address = format!("{page}{query}");
                let answer = open(&port, &address, token).await;
                if answer.status == 403 && token != "t0ken" {
                    continue;
                }
                assert_eq!(answer.status, 200, "{address} as {token}");
                seen += usize::from(query.is_empty());
                let elements = read(&answer.body);
                let goals = |name: &str, key: &str, value: &str| -> Vec<String> {
                    let own = elements.iter().filter(|element| element.name == name);
                    let own = own.filter(|element| element.attribute(key).as_deref() == Some(value));
                    own.filter_map(|element| element.attribute("href")).collect()
                };
                let heads = goals("link", "type", "application/json");
                assert_eq!(heads.len(), 1, "{address} as {token}: {heads:?}");
                let shown = goals("a", "class", "twin");
                assert_eq!(shown.first(), heads.first(), "{address} as {token}: beside the title it is the same");
                for twin in shown {
                    let json = open(&port, &twin, token).await;
                    assert_eq!(json.status, 200, "{twin} of {address} as {token}: {}", json.body);
                    assert!(json.head.contains("content-type: application/json"), "{twin}: {}", json.head);
                    assert!(json.json().is_object(), "{twin}");
                    twins.insert(twin);
                }
            }
        }
        assert!(seen >= least, "{token} has seen only {seen} pages");
    }
    assert!(twins.contains("/api/v1/databases") && twins.len() > 15, "{twins:?}");
}
