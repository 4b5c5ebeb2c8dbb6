//! The first packet of a client, whatever it is: parsed or refused, and what was parsed holds its promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::frame;
use wire::startup::{self, FirstMessage, MAX_SETTINGS};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(opening)) = frame::opening(bytes) else { return };
    match startup::parse(&opening) {
        Ok(FirstMessage::Startup(message)) => {
            assert!(!message.user.is_empty() && !message.database.is_empty());
            assert!(message.settings.len() <= MAX_SETTINGS);
            for setting in &message.settings {
                assert!(!setting.name.is_empty() && !setting.value.contains(&0));
                assert!(setting.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte)));
                assert_eq!(message.setting(&setting.name), Some(&*setting.value), "every name once");
            }
            let negotiation = message.negotiate();
            assert!(negotiation.must_answer || negotiation.unknown.is_empty());
        }
        Ok(FirstMessage::Cancel(request)) => assert!((4..=256).contains(&request.key.len())),
        Ok(FirstMessage::SslRequest | FirstMessage::GssEncRequest) => assert_eq!(opening.total, 8),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
