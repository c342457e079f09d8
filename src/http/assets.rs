//! The console's files, from the binary: strong ETags, a strict content policy.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::{Path, ServiceConfig},
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::{Answer, get, problem::Problem};

const INDEX: &str = "index.html";
const CONTENT_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "src/http/console"]
struct Files;

pub fn routes(config: &mut ServiceConfig) {
    config.service(get("/console", console)).service(get("/console/{file:.*}", file));
}

/// The console's page.
pub fn index(request: &HttpRequest) -> Answer {
    serve(request, INDEX)
}

async fn console(request: HttpRequest) -> Answer {
    index(&request)
}

async fn file(request: HttpRequest, path: Path<String>) -> Answer {
    let path = if path.is_empty() { INDEX } else { path.as_str() };
    serve(&request, path)
}

fn serve(request: &HttpRequest, path: &str) -> Answer {
    let file = Files::get(path).ok_or_else(Problem::not_found)?;
    let tag = tag(&file);
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let mut response = if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        HttpResponse::NotModified().finish()
    } else {
        HttpResponse::Ok().content_type(content_type(path)).body(file.data.into_owned())
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(&tag).expect("hex digits in quotes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

fn tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map" | "webmanifest") => "application/json",
        Some("woff2") => "font/woff2",
        Some("txt" | "md" | "toml") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
