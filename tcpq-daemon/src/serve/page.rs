//! The landing page.

/// HTML that names the program and links to its endpoints.
pub fn landing(telemetry_path: &str) -> String {
    let path = escape(telemetry_path);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>tcpq</title>\n\
         <style>body{{font-family:system-ui,sans-serif;margin:3em;max-width:40em;line-height:1.5}}\
         </style></head>\n<body>\n<h1>tcpq</h1>\n\
         <p>Which TCP listener's SYN queue or accept queue overflows, at which stage, how often. \
         Version {version}.</p>\n<ul>\n\
         <li><a href=\"{path}\">Metrics</a></li>\n\
         <li><a href=\"/healthz\">Health</a>, <a href=\"/readyz\">readiness</a></li>\n\
         <li><a href=\"/api/v1/listeners\">Listeners</a>, \
         <a href=\"/api/v1/incidents\">incidents</a> (JSON; this host only)</li>\n\
         </ul>\n</body>\n</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
