//! `pgweir token`: a token that nobody can guess, and what the configuration has to say of it.

use config::TokenDigest;

/// Begins every token, so that one which was left somewhere is known for what it is.
const PREFIX: &str = "pgweir_";

/// Two lines: the token made of these random bytes, and its line for the configuration.
pub(super) fn fresh(random: [u8; 32]) -> String {
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("{PREFIX}{digits}");
    let digest = TokenDigest::of(token.as_bytes()).hex();
    format!("{token}\ntoken_sha256 = \"{digest}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_of_the_token() {
        let text = fresh([0xab; 32]);
        let (token, line) = text.split_once('\n').unwrap();
        assert_eq!(token, format!("pgweir_{}", "ab".repeat(32)));
        assert!(token.len() >= config::LONG_TOKEN);
        let digest = line.trim().strip_prefix("token_sha256 = \"").unwrap().strip_suffix('"').unwrap();
        assert_eq!(TokenDigest::parse(digest), Some(TokenDigest::of(token.as_bytes())));
    }
}
