//! The OpenAPI 3.1 document and the page that shows it, both without a network.

use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderValue},
    middleware::{Next, from_fn},
    web::{self, Data, ServiceConfig},
};
use serde_json::{Map, Value, json};
use utoipa::{OpenApi, openapi::Response};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{access, facts, get, groups, operations, problem, records, sensors, streams, topic_records, topics, ws};

/// The page sets styles on its elements and shows pictures from its own style sheet.
const CONTENT_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'";

/// JSON Schemas by name: of answers, and of requests' bodies.
const SHAPES: [&str; 4] = [
    include_str!("streams.json"),
    include_str!("topics.json"),
    include_str!("operations.json"),
    include_str!("bodies.json"),
];
/// JSON Schemas of the parameters that take one of a list or a time, by the parameter's name.
const PARAMETERS: &str = include_str!("parameters.json");

const FAULT: &str = "#/components/schemas/Fault";

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

/// The document as JSON text: what the handlers say of themselves, with the shapes of bodies and answers.
#[must_use]
pub fn document() -> String {
    let mut document = Document::openapi();
    for item in document.paths.paths.values_mut() {
        for (operation, reads_body) in
            [(&mut item.get, false), (&mut item.delete, false), (&mut item.post, true), (&mut item.patch, true)]
        {
            let Some(operation) = operation else { continue };
            let of_body = BODY_STATUSES.iter().filter(|_| reads_body);
            for (status, about) in EVERY_STATUS.iter().chain(of_body) {
                let answers = &mut operation.responses.responses;
                answers.entry((*status).to_owned()).or_insert_with(|| Response::new(*about).into());
            }
        }
    }
    let mut document = serde_json::to_value(document).expect("the document is JSON");
    let parameters = parsed(PARAMETERS);
    for item in document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        let operations = item.as_object_mut().into_iter().flat_map(Map::values_mut);
        operations.for_each(|operation| complete(operation, &parameters));
    }
    document["components"]["schemas"] = SHAPES.iter().flat_map(|file| parsed(file)).collect();
    format!("{document:#}")
}

/// What one of its handlers does not say of an operation: enumerations, whether it needs a body, and the body of errors.
fn complete(operation: &mut Value, known: &Map<String, Value>) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if let Some(schema) = parameter["name"].as_str().and_then(|name| known.get(name)) {
            parameter["schema"] = schema.clone();
        }
    }
    if let Some(body) = operation.get_mut("requestBody") {
        // Of the commands, `inject` alone reads one.
        body["required"] = (body["content"]["application/json"]["schema"]["$ref"] != FAULT).into();
    }
    let answers = operation["responses"].as_object_mut().into_iter().flatten();
    for (_, answer) in answers.filter(|(status, answer)| status.as_str() >= "400" && answer["content"].is_null()) {
        answer["content"] = json!({ problem::CONTENT_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } } });
    }
}

fn parsed(file: &str) -> Map<String, Value> {
    serde_json::from_str(file).expect("a file of this folder is a JSON object")
}

/// Statuses that every route may answer, beside its own.
const EVERY_STATUS: [(&str, &str); 4] = [
    ("401", "Tokens are configured, and the request has none of them"),
    ("403", "The token's role may not do this, or the host or the page's origin is not one of this server's"),
    ("404", "There is no such thing"),
    ("503", "A part of the server does not answer, or there is no room for the request; see Retry-After"),
];

/// Statuses that every route that takes a body may answer, beside its own.
const BODY_STATUSES: [(&str, &str); 6] = [
    ("400", "The body was cut off, or is not in its Content-Encoding"),
    ("408", "The body did not come in time"),
    ("409", "It cannot be done in the present state; nothing was changed"),
    ("413", "The body is too large; with a Content-Encoding, its decoded bytes count"),
    ("415", "The Content-Type or the Content-Encoding is not supported; gzip and deflate are"),
    ("422", "The body is wrong; `detail` names each fault"),
];

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
