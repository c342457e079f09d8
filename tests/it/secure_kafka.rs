//! An Apache Kafka with TLS: who may come in reads and writes, and who may not is told why.
//!
//! `STREAMWARD_KAFKA_SECURE` is `HOST:PORT FOLDER`: a listener with SASL_SSL (user `streamward`), and the folder with
//! `ca.pem`, `other-ca.pem`, `client.pem`, `client.key`, `expired.pem` and `expired.key`. `STREAMWARD_KAFKA_MTLS` is
//! likewise one that asks for a certificate besides, and `STREAMWARD_KAFKA_PLAIN` a port without TLS. With the feature `oidc`,
//! `STREAMWARD_KAFKA_OIDC` is one with the mechanism OAUTHBEARER that takes tokens which nobody signed.

use serde_json::json;

use crate::support::{
    server::Node,
    wait::{self, is},
};

const RECORDS: &str = "/api/v1/streams/sensors/records";
const PASSWORD: &str = "streamward-secret";

/// Address of a listener and the folder of its certificates.
struct Secure {
    address: String,
    folder: String,
}

impl Secure {
    fn of(variable: &str) -> Self {
        let text = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names the broker"));
        let (address, folder) = text.split_once(' ').unwrap();
        Self { address: address.to_owned(), folder: folder.to_owned() }
    }

    /// A node that comes as `streamward` with SCRAM-SHA-512, but for these settings.
    fn node(&self, but: &[(&str, &str)]) -> Node {
        let mut client = json!({
            "security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "streamward",
            "sasl.password": PASSWORD, "ssl.ca.location": self.file("ca.pem"),
        });
        for (name, value) in but {
            client[*name] = (*value).into();
        }
        let group = format!("secure-{}-{}", std::process::id(), self.address);
        Node::new()
            .set("kafka.bootstrap", &self.address)
            .set("kafka.start_timeout", "5s")
            .set("kafka.consumer_group", &group)
            .set("kafka.client", &client.to_string())
    }

    /// Settings that show this certificate.
    fn certificate(&self, name: &str) -> [(&'static str, String); 2] {
        let file = |ending: &str| self.file(&format!("{name}.{ending}"));
        [("ssl.certificate.location", file("pem")), ("ssl.key.location", file("key"))]
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// Posts a reading and waits until it is stored.
async fn stores(node: Node) {
    let server = node.start().await;
    let reading = json!({
        "sensor_id": "secure", "sensor_type": "temperature", "value": 21.5, "location": "zone_1",
        "timestamp": "2025-03-01T12:00:00Z", "metadata": { "battery_level": 90, "signal_strength": -40 },
    });
    let (status, answer) = server.http.post(RECORDS, &reading).await;
    assert_eq!(status, 202, "{answer}");
    let place = &answer["records"][0];
    let sql = format!(
        "SELECT count(*) FROM sensor_readings WHERE \"partition\" = {} AND \"offset\" = {}",
        place["partition"], place["offset"]
    );
    wait::until("it is stored", async || is(server.database().number(&sql).await, &1)).await;
}

/// Starts a server that is refused with these words: 2 where the cluster says why, 3 where it says nothing.
fn refused(node: &Node, words: &[&str]) {
    let (code, said) = node.ends();
    let says_why = !said.contains("nobody answers within kafka.start_timeout");
    assert!(code == Some(if says_why { 2 } else { 3 }) && !said.contains(PASSWORD), "{code:?}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said} without {words:?}");
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[actix_rt::test]
async fn records_come_and_go_by_tls_with_scram_and_with_a_certificate() {
    stores(Secure::of("STREAMWARD_KAFKA_SECURE").node(&[])).await;
    let mutual = Secure::of("STREAMWARD_KAFKA_MTLS");
    stores(mutual.node(&borrowed(&mutual.certificate("client")))).await;
}

#[test]
fn who_is_not_let_in_is_told_the_address_the_cause_and_the_settings() {
    let (secure, mutual) = (Secure::of("STREAMWARD_KAFKA_SECURE"), Secure::of("STREAMWARD_KAFKA_MTLS"));
    let at = |secure: &Secure| format!("kafka.bootstrap {}", secure.address);
    let (here, there) = (at(&secure), at(&mutual));
    refused(&secure.node(&[("sasl.password", "wrong")]), &[&here, "uthentication", "sasl.password"]);
    let other = secure.file("other-ca.pem");
    refused(&secure.node(&[("ssl.ca.location", &other)]), &[&here, "certificate verify failed", "ssl.ca.location"]);
    let expired = mutual.certificate("expired");
    refused(&mutual.node(&borrowed(&expired)), &[&there, "certificate", "ssl.certificate.location"]);
    refused(&mutual.node(&[]), &[&there, "certificate", "ssl.certificate.location"]);
    refused(&secure.node(&[("security.protocol", "PLAINTEXT")]), &[&here, "security.protocol"]);
    let plain = Secure { address: std::env::var("STREAMWARD_KAFKA_PLAIN").unwrap(), folder: secure.folder };
    refused(&plain.node(&[]), &[&at(&plain), "PLAINTEXT", "security.protocol"]);
}

#[cfg(feature = "oidc")]
mod bearer {
    use std::net::TcpListener;

    use actix_web::{
        App, HttpRequest, HttpResponse, HttpServer,
        web::{Path, post},
    };
    use base64::{Engine as _, engine::general_purpose as base};
    use serde_json::{Value, json};

    use super::{PASSWORD, Secure, stores};

    /// A token that nobody signed, for who shows the client's secret.
    async fn token(request: HttpRequest, scope: Path<String>) -> HttpResponse {
        let shown = base::STANDARD.encode(format!("streamward:{PASSWORD}"));
        let authorization = request.headers().get("authorization").map(|value| value.as_bytes());
        if scope.as_str() != "known" || authorization != Some(format!("Basic {shown}").as_bytes()) {
            return HttpResponse::Unauthorized().json(json!({"error": "invalid_client"}));
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let part = |part: Value| base::URL_SAFE_NO_PAD.encode(part.to_string());
        let claims = json!({"sub": "streamward", "iat": now, "exp": now + 60});
        let token = format!("{}.{}.", part(json!({"alg": "none"})), part(claims));
        HttpResponse::Ok().json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 60}))
    }

    #[actix_rt::test]
    async fn records_come_and_go_with_tokens_and_who_gets_none_is_told_the_answer_and_the_settings() {
        let secure = Secure::of("STREAMWARD_KAFKA_OIDC");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = HttpServer::new(|| App::new().route("/{scope}/token", post().to(token)));
        let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
        let node = |client: &str| {
            secure.node(&[
                ("sasl.mechanisms", "OAUTHBEARER"),
                ("sasl.oauthbearer.method", "oidc"),
                ("sasl.oauthbearer.client.id", "streamward"),
                ("sasl.oauthbearer.client.secret", PASSWORD),
                ("sasl.oauthbearer.token.endpoint.url", &format!("http://{address}/{client}/token")),
            ])
        };
        let (good, refused) = (node("known"), node("unknown"));
        let case = async {
            stores(good).await;
            let (code, said) = refused.ends();
            assert_eq!(code, Some(3), "{said}");
            assert!(said.contains("invalid_client") && said.contains("sasl.oauthbearer.token.endpoint.url"), "{said}");
            assert!(!said.contains(PASSWORD), "{said}");
        };
        tokio::select! {
            ended = server => panic!("the token server has ended: {ended:?}"),
            () = case => {}
        }
    }
}
