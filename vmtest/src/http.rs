//! One HTTP request over a plain socket: a scraper with nothing of ours in it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// Nothing that we ask for may take longer, even on an emulated CPU.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug)]
pub struct Response<Body = String> {
    /// The status code.
    pub status: u16,
    /// The value of `content-type`, empty if there was none.
    pub content_type: String,
    /// The body: text, or bytes.
    pub body: Body,
}

/// GET with an `Accept` header; any status is an answer.
pub fn get(server: SocketAddr, path: &str, accept: &str) -> Result<Response> {
    let Response { status, content_type, body } = get_bytes(server, path, accept)?;
    let body = String::from_utf8(body).with_context(|| format!("{path} is no text"))?;
    Ok(Response { status, content_type, body })
}

/// The same of what need not be text.
pub fn get_bytes(server: SocketAddr, path: &str, accept: &str) -> Result<Response<Vec<u8>>> {
    let ask = || -> Result<Response<Vec<u8>>> {
        let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // HTTP/1.0, so that the answer ends where the connection ends.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\nAccept: {accept}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer)
    };
    ask().with_context(|| format!("GET http://{server}{path}"))
}

/// GET that must succeed; the body.
pub fn get_ok(server: SocketAddr, path: &str, accept: &str) -> Result<String> {
    let response = get(server, path, accept)?;
    ensure!(
        response.status == 200,
        "GET http://{server}{path} answered {}: {}",
        response.status,
        response.body.trim()
    );
    Ok(response.body)
}

/// A query string's value: everything but letters and digits escaped.
pub fn escape(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn parse(answer: &[u8]) -> Result<Response<Vec<u8>>> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|window| window == END);
    let (head, body) = answer.split_at(end.context("the answer has no end of headers")?);
    let head = str::from_utf8(head).context("the headers are no text")?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .context("the answer has no status")?;
    let mut content_type = String::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-type" => value.trim().clone_into(&mut content_type),
            "transfer-encoding" => bail!("an HTTP/1.0 client got a {} answer", value.trim()),
            _ => {}
        }
    }
    Ok(Response { status, content_type, body: body[END.len()..].to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let response =
            parse(b"HTTP/1.0 503 Not Yet\r\nContent-Type: text/plain\r\n\r\nwait\r\n\r\n").unwrap();
        assert_eq!(response.status, 503);
        assert_eq!(response.content_type, "text/plain");
        assert_eq!(response.body, b"wait\r\n\r\n");
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("rate(x[5s])"), "rate%28x%5B5s%5D%29");
    }
}
