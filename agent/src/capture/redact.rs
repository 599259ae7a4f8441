//! What must not leave capture: secrets in arguments, and all of the environment that is not asked for.

/// What stands for a secret.
pub const REDACTED: &str = "REDACTED";

const SECRET_NAMES: [&str; 9] =
    ["password", "passwd", "secret", "token", "api_key", "apikey", "api-key", "access_key", "credential"];

/// Whether something of this name is a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|s| name.contains(s))
}

/// Arguments without values of options and assignments that look like secrets, and without passwords in URLs.
pub fn arguments(arguments: Vec<String>) -> Vec<Box<str>> {
    let mut hide_next = false;
    arguments
        .into_iter()
        .map(|argument| {
            if std::mem::take(&mut hide_next) {
                return REDACTED.into();
            }
            if let Some((name, _)) =
                argument.split_once('=').filter(|(n, _)| is_secret_name(n) && !n.contains(char::is_whitespace))
            {
                return format!("{name}={REDACTED}").into();
            }
            if argument.starts_with("--") && is_secret_name(&argument) {
                hide_next = true;
            }
            without_password(argument).into()
        })
        .collect()
}

/// `scheme://user:password@host` without its password.
pub fn without_password(text: String) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    let Some((authority, path)) = rest.split_once('@').filter(|(a, _)| !a.contains(['/', ' '])) else { return text };
    match authority.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{REDACTED}@{path}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_stays() {
        let given = ["curl", "--token", "abc", "API_KEY=x", "--password=p", "https://me:pw@host/x", "a=b"];
        let shown = arguments(given.map(String::from).to_vec());
        let shown: Vec<&str> = shown.iter().map(|s| &**s).collect();
        let url = "https://me:REDACTED@host/x";
        assert_eq!(shown, ["curl", "--token", REDACTED, "API_KEY=REDACTED", "--password=REDACTED", url, "a=b"]);
    }
}
