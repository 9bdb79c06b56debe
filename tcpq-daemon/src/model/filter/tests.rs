use super::*;

fn owner() -> Owner {
    Owner {
        process: Some("nginx: worker".to_owned()),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
        ..Owner::default()
    }
}

fn filters(include: &str, exclude: &str) -> Filters {
    let patterns = |text: &str| text.parse::<Patterns>().unwrap().0;
    Filters { include: patterns(include), exclude: patterns(exclude) }
}

fn admits(filters: &Filters, address: &str, owner: &Owner) -> bool {
    let address = address.parse().unwrap();
    filters.admit(&Subject { address, port: 8080, netns: "web-1", owner })
}

#[test]
fn each_kind_matches() {
    for (pattern, matches) in [
        ("port:8080", true),
        ("port:80", false),
        ("port:8000-8999", true),
        ("port:8081-8999", false),
        ("port:1-65535", true),
        ("address:10.1.2.3", true),
        ("address:10.1.2.4", false),
        ("address:10.0.0.0/8", true),
        ("address:10.1.2.2/31", true),
        ("address:10.2.0.0/16", false),
        ("address:0.0.0.0/0", true),
        ("address:0.0.0.0", false),
        ("address:::/0", false),
        ("netns:web-1", true),
        ("netns:web-[1-3]", true),
        ("netns:web", false),
        ("process:nginx*", true),
        ("process:nginx:?worker", true),
        ("process:nginx", false),
        ("cgroup:/system.slice/*", true),
        ("cgroup:*nginx*", true),
        ("cgroup:/user.slice/*", false),
    ] {
        assert_eq!(admits(&filters(pattern, ""), "10.1.2.3", &owner()), matches, "{pattern}");
        assert_eq!(admits(&filters("", pattern), "10.1.2.3", &owner()), !matches, "{pattern}");
    }
}

#[test]
fn networks_of_six_and_of_four_in_six() {
    for (pattern, address, matches) in [
        ("address:2001:db8::/32", "2001:db8::1", true),
        ("address:2001:db8::/32", "2001:db9::1", false),
        ("address:::/0", "::", true),
        ("address:::", "::", true),
        ("address:::1", "::1", true),
        ("address:10.0.0.0/8", "::ffff:10.0.0.1", true),
        ("address:::ffff:0:0/96", "::ffff:10.0.0.1", true),
        ("address:0.0.0.0/0", "::1", false),
    ] {
        assert_eq!(
            admits(&filters(pattern, ""), address, &owner()),
            matches,
            "{pattern} {address}"
        );
    }
}

#[test]
fn one_include_is_enough_and_an_exclude_wins() {
    let both = filters("port:1 process:nginx*", "netns:web-2 port:8080");
    assert!(!admits(&both, "::", &owner()));
    assert!(admits(&filters("port:1 process:nginx*", "netns:web-2"), "::", &owner()));
    assert!(admits(&Filters::default(), "::", &owner()));
    assert!(Filters::default().is_empty() && !both.is_empty());
}

#[test]
fn an_unknown_owner_matches_no_glob() {
    let unknown = Owner::default();
    for pattern in ["process:*", "cgroup:*"] {
        assert!(!admits(&filters(pattern, ""), "::", &unknown), "{pattern}");
        assert!(admits(&filters("", pattern), "::", &unknown), "{pattern}");
    }
}

#[test]
fn names_that_are_hostile_are_matched_whole() {
    let hostile = Owner { process: Some("a\nb\u{fffd}\"/\\".to_owned()), ..Owner::default() };
    assert!(admits(&filters("process:a*", ""), "::", &hostile));
    assert!(!admits(&filters("process:b*", ""), "::", &hostile));
}

#[test]
fn a_wrong_pattern_is_told_with_reason_and_example() {
    for (pattern, part) in [
        ("80", "no KIND:"),
        ("", "no KIND:"),
        ("prot:80", "none of port, address, netns, process or cgroup"),
        ("port:", "no port"),
        ("port:0", "`0` is no port from 1 to 65535"),
        ("port:65536", "no port"),
        ("port:http", "`http` is no port"),
        ("port:80,443", "give the flag once for each"),
        ("port:90-80", "80-90 may be meant"),
        ("port:80-", "no port"),
        ("address:", "no IP address"),
        ("address:[::1]", "without brackets"),
        ("address:10.0.0.0/33", "from 0 to 32"),
        ("address:::/129", "from 0 to 128"),
        ("address:10.0.0.0/", "prefix"),
        ("address:10.0.0.0/-1", "prefix"),
        ("address:10.1.2.3/8", "bits beyond its prefix of 8"),
        ("address:localhost", "no IP address"),
        ("process:", "empty"),
        ("process:[a", "unclosed"),
        ("netns:[z-a]", "range"),
        ("cgroup:{a", "alternate"),
    ] {
        let error = pattern.parse::<Pattern>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{pattern}`: ")), "{error}");
        assert!(error.contains(part), "{error}");
        let example = error.rsplit(' ').next().unwrap();
        assert!(example.parse::<Pattern>().is_ok(), "{error}");
    }
}

#[test]
fn patterns_are_separated_by_blanks() {
    let patterns: Patterns = "  port:80\tport:443 ".parse().unwrap();
    let texts: Vec<_> = patterns.0.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["port:80", "port:443"]);
    assert!("".parse::<Patterns>().unwrap().0.is_empty());
    let error = "process:Web Content".parse::<Patterns>().unwrap_err().to_string();
    assert!(error.contains("`Content`") && error.contains("a blank in a glob"), "{error}");
}

#[test]
fn long_and_foreign_globs_are_compiled_or_refused() {
    let longest = LONGEST_GLOB;
    for (glob, is_right) in [
        ("*?".repeat(longest / 2), true),
        ("[a-z]".repeat(longest / 5), true),
        ("*".repeat(longest + 1), false),
        ("[\u{e0}-\u{ff}]*".to_owned(), true),
        ("\u{1f9ea}*".to_owned(), true),
    ] {
        assert_eq!(format!("process:{glob}").parse::<Pattern>().is_ok(), is_right, "{glob}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(port|address|netns|process|cgroup)?:?.{0,40}") {
        if let Ok(pattern) = text.parse::<Pattern>() {
            let owner = owner();
            let address = IpAddr::from([127, 0, 0, 1]);
            pattern.matches(&Subject { address, port: 1, netns: &text, owner: &owner });
        }
    }
}
