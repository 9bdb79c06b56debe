use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::atomic::AtomicU32,
    thread,
    time::{Duration, Instant},
};

use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{
    list::tests::{ID, container, list},
    *,
};
use crate::attribution::pods::fetch::FetchError;

/// Everything a hundred times as fast.
const FAST: Timing = Timing {
    period: Duration::from_millis(50),
    file_period: Duration::from_millis(20),
    longest: Duration::from_millis(200),
    patience: Duration::from_millis(400),
    holds: Duration::from_mins(1),
};

/// What a kubelet does with one connection whose request it has read.
type Behaviour = fn(&mut dyn Write);

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn say(stream: &mut dyn Write, answer: &str) {
    // Who has heard enough may have hung up.
    drop(stream.write_all(answer.as_bytes()));
    drop(stream.flush());
}

/// Serves each connection on a thread, for as long as the test runs.
fn serve(each: impl Fn(std::net::TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
    address
}

fn read_request(stream: &mut impl std::io::Read) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    String::from_utf8(request).unwrap()
}

fn http(behaviour: Behaviour) -> SocketAddr {
    serve(move |mut stream| {
        read_request(&mut stream);
        behaviour(&mut stream);
    })
}

fn kubelet(address: SocketAddr) -> Kubelet {
    let url = format!("http://{address}/pods").parse().unwrap();
    Kubelet { url, token: None, trust: None }
}

/// With one who answers; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(2);

fn fetch_from(kubelet: &Kubelet) -> Result<Table, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fetch::kubelet(kubelet, PATIENCE))
}

/// Asks once, and how long that took.
fn fetch_once(behaviour: Behaviour) -> (Result<Table, FetchError>, Duration) {
    let kubelet = kubelet(http(behaviour));
    let start = Instant::now();
    (fetch_from(&kubelet), start.elapsed())
}

fn name_of(pods: &Pods) -> Option<String> {
    pods.lookup(&container(ID, None)).map(|pod| pod.name)
}

/// Waits until the pod goes by this name.
fn wait_for(pods: &Pods, name: Option<&str>) {
    let patience = Instant::now() + Duration::from_secs(20);
    while name_of(pods).as_deref() != name {
        assert!(Instant::now() < patience, "still {:?}, not {name:?}", name_of(pods));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn off_finds_nothing() {
    assert_eq!(name_of(&Pods::off()), None);
    assert_eq!(Pods::off().version(), 0);
}

#[test]
fn a_kubelets_list_is_found() {
    let (table, _) = fetch_once(|stream| say(stream, &ok(&list("web-1").to_string())));
    assert!(table.unwrap().find(&container(ID, None)).is_some());
    // Without a length, until it closes; and in chunks.
    let (table, _) = fetch_once(|stream| {
        say(stream, &format!("HTTP/1.1 200 OK\r\n\r\n{}", list("web-1")));
    });
    assert!(table.is_ok());
}

#[test]
fn one_that_hangs_is_left_in_time() {
    let hang: Behaviour = |_| thread::sleep(Duration::from_secs(30));
    let slow: Behaviour = |stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        for _ in 0..100 {
            say(stream, " ");
            thread::sleep(Duration::from_millis(50));
        }
    };
    for behaviour in [hang, slow] {
        let (result, took) = fetch_once(behaviour);
        assert!(matches!(result, Err(FetchError::Hangs { .. })), "{result:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[test]
fn one_that_answers_50_mb_is_refused_early() {
    let announced: Behaviour = |stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n");
        say(stream, &" ".repeat(50_000_000));
    };
    let not_announced: Behaviour = |stream| {
        say(stream, "HTTP/1.1 200 OK\r\n\r\n");
        say(stream, &" ".repeat(50_000_000));
    };
    for behaviour in [announced, not_announced] {
        let kubelet = kubelet(http(behaviour));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(fetch::kubelet(&kubelet, Duration::from_secs(20)));
        let error = result.unwrap_err();
        assert!(matches!(error, FetchError::TooLong), "{error:?}");
        assert_eq!(error.to_string(), "the answer has more than 16 MiB");
    }
}

#[test]
fn one_that_breaks_off_lies_or_refuses_is_not_believed() {
    let cases: [(Behaviour, &str); 8] = [
        (|_| {}, "the answer broke off"),
        (|stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Le"), "the answer broke off"),
        (
            |stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"items\":[]}"),
            "the answer broke off",
        ),
        (|stream| say(stream, "220 mail ESMTP\r\n"), "the answer broke off"),
        (|stream| say(stream, &ok("<html>")), "the answer is no list of pods"),
        (|stream| say(stream, &ok(r#"{"items":"\u001b[2J"}"#)), "the answer is no list of pods"),
        (|stream| say(stream, "HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n"), "refuses (403"),
        (
            |stream| say(stream, "HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n"),
            "the answer is 302",
        ),
    ];
    for (behaviour, expected) in cases {
        let error = fetch_once(behaviour).0.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}: not {expected}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn nobody_there_is_said_with_the_reason() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = fetch_from(&kubelet(address)).unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to 127.0.0.1");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn the_token_is_sent_and_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let address = serve(|mut stream| {
        let request = read_request(&mut stream);
        let is_known = request.contains("authorization: Bearer second\r\n");
        let denied = "HTTP/1.1 401 no\r\nContent-Length: 0\r\n\r\n".to_owned();
        say(&mut stream, &if is_known { ok(&list("web-1").to_string()) } else { denied });
    });
    let kubelet = Kubelet { token: Some(token.clone()), ..kubelet(address) };
    assert!(matches!(fetch_from(&kubelet), Err(FetchError::Token { .. })));
    fs::write(&token, "first\n").unwrap();
    assert!(matches!(fetch_from(&kubelet), Err(FetchError::Denied { .. })));
    fs::write(&token, "second\n").unwrap();
    assert!(fetch_from(&kubelet).is_ok());
    fs::write(&token, "not\na token").unwrap();
    let error = fetch_from(&kubelet).unwrap_err();
    assert!(matches!(error, FetchError::Token { .. }) && !format!("{error:?}").contains("a token"));
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/attribution/pods/fixtures").join(name)
}

fn https() -> SocketAddr {
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let private = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private)
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        if !read_request(&mut stream).is_empty() {
            say(&mut stream, &ok(&list("web-1").to_string()));
            stream.conn.send_close_notify();
            say(&mut stream, "");
        }
    })
}

#[test]
fn a_certificate_is_verified_unless_that_is_not_wanted() {
    let address = https();
    let fetch = |host: &str, trust| {
        let url = format!("https://{host}:{}/pods", address.port()).parse().unwrap();
        fetch_from(&Kubelet { url, token: None, trust: Some(trust) })
    };
    let ca = |name| Trust::Authority(fixture(name));
    fetch("127.0.0.1", ca("ca.pem")).unwrap();
    fetch("127.0.0.1", Trust::Unverified).unwrap();
    fetch("localhost", Trust::Unverified).unwrap();
    for (host, trust) in [("localhost", ca("ca.pem")), ("127.0.0.1", ca("other-ca.pem"))] {
        let error = fetch(host, trust).unwrap_err();
        assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
    }
    for missing in ["server.key", "none.pem"] {
        let error = fetch("127.0.0.1", ca(missing)).unwrap_err();
        assert!(matches!(error, FetchError::Tls(_)), "{error:?}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_at_once() {
    let ask = |url: &str, token: Option<&str>, trust: Option<Trust>| {
        let url = url.parse().unwrap();
        fetch::check(&Kubelet { url, token: token.map(PathBuf::from), trust })
    };
    let any = || Some(Trust::Unverified);
    assert!(ask("https://127.0.0.1:10250/pods", Some("t"), any()).is_ok());
    assert!(ask("https://[::1]:10250/pods", None, any()).is_ok());
    assert!(ask("http://127.0.0.1:10255/pods", Some("t"), None).is_ok());
    assert!(ask("http://[::1]:10255/pods", Some("t"), None).is_ok());
    assert!(ask("http://10.0.0.1:10255/pods", None, None).is_ok());
    assert!(matches!(ask("https://node/pods", None, None), Err(PodsError::NoTrust { .. })));
    for url in ["http://10.0.0.1/pods", "http://localhost/pods", "http://node/pods"] {
        assert!(matches!(ask(url, Some("t"), None), Err(PodsError::TokenInClear { .. })), "{url}");
    }
    for url in ["/pods", "ftp://node/pods", "node:10250", "https://a..b/pods"] {
        assert!(matches!(ask(url, None, any()), Err(PodsError::BadUrl { .. })), "{url}");
    }
    let source =
        Source::Kubelet(Kubelet { url: "/pods".parse().unwrap(), token: None, trust: None });
    assert!(Pods::start(source).is_err());
}

#[test]
fn failures_leave_what_is_known_and_end_with_the_next_answer() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let address = serve(move |mut stream| {
        read_request(&mut stream);
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => say(&mut stream, &ok(&list("web-1").to_string())),
            1 => say(&mut stream, &ok("{\"kind\":\"Status\"}")),
            2 => {}
            3 => say(&mut stream, &ok(&list("a\nb").to_string())),
            _ => say(&mut stream, &ok(&list("web-2").to_string())),
        }
    });
    let pods = Pods::start_with(Source::Kubelet(kubelet(address)), FAST).unwrap();
    wait_for(&pods, Some("web-1"));
    let version = pods.version();
    while asked.load(Ordering::SeqCst) < 4 {
        assert_ne!(name_of(&pods), None);
        thread::sleep(Duration::from_millis(2));
    }
    wait_for(&pods, Some("web-2"));
    assert_eq!(pods.version(), version + 1);
    // The same answer again is no other table.
    let before = asked.load(Ordering::SeqCst);
    while asked.load(Ordering::SeqCst) < before + 3 {
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(pods.version(), version + 1);
}

#[test]
fn what_is_known_does_not_hold_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pods.json");
    fs::write(&path, list("web-1").to_string()).unwrap();
    let timing = Timing { holds: Duration::from_millis(300), ..FAST };
    let pods = Pods::start_with(Source::File(path.clone()), timing).unwrap();
    wait_for(&pods, Some("web-1"));
    // As long as the file is there and good, its age does not count.
    thread::sleep(timing.holds * 2);
    assert_eq!(name_of(&pods).as_deref(), Some("web-1"));
    fs::remove_file(&path).unwrap();
    wait_for(&pods, None);
}

#[test]
fn a_lookup_never_waits_for_a_kubelet_that_hangs() {
    let hangs = http(|_| thread::sleep(Duration::from_secs(30)));
    let timing = Timing { patience: Duration::from_secs(30), ..FAST };
    let pods = Pods::start_with(Source::Kubelet(kubelet(hangs)), timing).unwrap();
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(name_of(&pods), None);
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    drop(pods);
    assert!(start.elapsed() < Duration::from_secs(1), "nor does the end");
}

#[test]
fn a_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pods.json");
    let pods = Pods::start_with(Source::File(path.clone()), FAST).unwrap();
    thread::sleep(FAST.file_period);
    assert_eq!(name_of(&pods), None);
    fs::write(&path, list("web-1").to_string()).unwrap();
    wait_for(&pods, Some("web-1"));
    // Half written: what is known holds.
    fs::write(&path, "{\"items\":[").unwrap();
    thread::sleep(FAST.longest * 2);
    assert_eq!(name_of(&pods).as_deref(), Some("web-1"));
    let new = folder.path().join("new.json");
    fs::write(&new, list("web-2").to_string()).unwrap();
    fs::rename(&new, &path).unwrap();
    wait_for(&pods, Some("web-2"));
    fs::write(&path, " ".repeat(fetch::MAX_BYTES + 1)).unwrap();
    assert!(matches!(fetch::file(&path), Err(FetchError::TooLong)));
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pods.json");
    let pods = Pods::start_with(Source::File(path), FAST).unwrap();
    let board = Arc::downgrade(&pods.0.as_ref().unwrap().board);
    let other = pods.clone();
    drop(pods);
    thread::sleep(FAST.longest);
    assert!(board.upgrade().is_some());
    drop(other);
    let patience = Instant::now() + Duration::from_secs(10);
    while board.upgrade().is_some() {
        assert!(Instant::now() < patience, "the thread still runs");
        thread::sleep(Duration::from_millis(5));
    }
}
