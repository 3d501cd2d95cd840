//! The peer URLs that a member is added or updated with, checked as etcd does before it looks at anything else.

use keystead_state::Refusal;

/// The URLs, sorted.
///
/// # Errors
/// [`Refusal::BadMemberUrls`]: there is none, or one has another scheme than etcd's, no port, or a path.
pub(crate) fn checked(urls: &[String]) -> Result<Vec<String>, Refusal> {
    let mut checked: Vec<_> = urls.iter().map(|url| url.trim().to_owned()).collect();
    if checked.is_empty() || !checked.iter().all(|url| is_usable(url)) {
        return Err(Refusal::BadMemberUrls);
    }
    checked.sort();
    Ok(checked)
}

fn is_usable(url: &str) -> bool {
    match url.split_once("://") {
        Some(("http" | "https", authority)) => has_port(authority),
        Some(("unix" | "unixs", file)) => !file.is_empty(),
        _ => false,
    }
}

/// `host:port`, and nothing behind it. An IPv6 address stands in brackets.
fn has_port(authority: &str) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (bracketed || !host.contains([':', '[', ']']))
        && !authority.contains(['/', '?', '#', '@', ' '])
        && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_member_can_be_reached_at_is_taken() {
        let taken = |urls: &[&str]| {
            let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
            checked(&urls)
        };
        assert_eq!(
            taken(&[
                "http://b:2380",
                " http://a:1",
                "https://[::1]:2",
                "unix://x"
            ]),
            Ok(
                ["http://a:1", "http://b:2380", "https://[::1]:2", "unix://x"]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
        for urls in [
            &[][..],
            &[""],
            &["a:2380"],
            &["ftp://a:21"],
            &["http://a"],
            &["http://a:x"],
            &["http://::1:2380"],
            &["http://a:2380/"],
            &["http://a:1", "nothing"],
        ] {
            assert_eq!(taken(urls), Err(Refusal::BadMemberUrls), "{urls:?}");
        }
    }
}
