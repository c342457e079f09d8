//! The OpenAPI 3.1 document and the page that shows it, both without a network.

use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderValue},
    middleware::{Next, from_fn},
    web::{self, Data, ServiceConfig},
};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{access, facts, get, groups, operations, records, sensors, streams, topic_records, topics, ws};

/// The page sets styles on its elements and shows pictures from its own style sheet.
const CONTENT_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(title = "Streamward", description = "Streams from Kafka, stored exactly once, live and on demand."),
    paths(
        sensors::root,
        sensors::latest,
        sensors::stats,
        sensors::anomalies,
        streams::streams,
        streams::latest,
        streams::anomalies,
        streams::stats,
        streams::windows,
        records::append,
        facts::alerts,
        facts::dead_letters,
        facts::dead_letter,
        topics::topics,
        topics::topic,
        topics::create,
        topics::alter,
        topics::delete,
        topic_records::records,
        topic_records::produce,
        groups::groups,
        groups::group,
        groups::reset,
        operations::supervision,
        access::caller,
        operations::tree,
        operations::command,
        operations::set_policy,
        operations::drill,
        operations::events,
        operations::topology,
        operations::lag,
        operations::standing_still,
        operations::live,
        operations::ready,
        operations::metrics,
        ws::open,
    )
)]
struct Document;

/// The document as JSON text.
#[must_use]
pub fn document() -> String {
    Document::openapi().to_pretty_json().expect("the document is JSON")
}

pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(Data::new(Text(document())))
        .service(get("/openapi.json", openapi))
        .service(get("/docs", docs))
        .service(
            web::scope("/docs")
                .wrap(from_fn(policy))
                .service(SwaggerUi::new("/{_:.*}").config(Config::from("/openapi.json"))),
        );
}

struct Text(String);

async fn openapi(document: Data<Text>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.0.clone())
}

async fn docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

async fn policy(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let mut response = next.call(request).await?;
    let policy = HeaderValue::from_static(CONTENT_POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}
