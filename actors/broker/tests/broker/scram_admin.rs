//! SCRAM credentials that administrators store, and access lists that nobody has.

use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, ApiKey, CreateAclsRequest, CreateAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse, create_acls_request::AclCreation,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use ring::pbkdf2;
use streamward_broker::Mechanism;

use crate::raw::Raw;
use crate::security::{Sasl, auth, guarded, scram};
use crate::support::Server;

const SHA256: i8 = 1;
const SHA512: i8 = 2;
const SASL_AUTHENTICATION_FAILED: i16 = 58;
const SECURITY_DISABLED: i16 = 54;
const RESOURCE_NOT_FOUND: i16 = 91;
const DUPLICATE_RESOURCE: i16 = 92;
const UNACCEPTABLE_CREDENTIAL: i16 = 93;

fn admin(server: &Server) -> Raw {
    let mut raw = Raw::connect(server);
    assert_eq!(raw.plain("ann", "pencil").error_code, 0);
    raw
}

fn upsertion(user: &str, password: &str) -> ScramCredentialUpsertion {
    let mut salted = vec![0; 64];
    let iterations = 8_192.try_into().unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, b"grains", password.as_bytes(), &mut salted);
    ScramCredentialUpsertion::default()
        .with_name(StrBytes::from_string(user.to_owned()))
        .with_mechanism(SHA512)
        .with_iterations(8_192)
        .with_salt("grains".into())
        .with_salted_password(salted.into())
}

fn deletion(user: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion::default().with_name(StrBytes::from_string(user.to_owned())).with_mechanism(mechanism)
}

/// Codes by user, in the order of the names.
fn alter(
    raw: &mut Raw,
    deletions: Vec<ScramCredentialDeletion>,
    upsertions: Vec<ScramCredentialUpsertion>,
) -> Vec<i16> {
    let request = AlterUserScramCredentialsRequest::default().with_deletions(deletions).with_upsertions(upsertions);
    raw.send(ApiKey::AlterUserScramCredentials, 0, &request);
    let answer = AlterUserScramCredentialsResponse::decode(&mut raw.receive_flexible(), 0).unwrap();
    answer.results.iter().map(|result| result.error_code).collect()
}

/// User, code, and mechanisms with iterations.
type Described = (String, i16, Vec<(i8, i32)>);

fn describe(raw: &mut Raw, users: &[&str]) -> Vec<Described> {
    let name = |user: &&str| UserName::default().with_name(StrBytes::from_string((*user).to_owned()));
    let request = DescribeUserScramCredentialsRequest::default().with_users(Some(users.iter().map(name).collect()));
    raw.send(ApiKey::DescribeUserScramCredentials, 0, &request);
    let answer = DescribeUserScramCredentialsResponse::decode(&mut raw.receive_flexible(), 0).unwrap();
    let one = |result: &DescribeUserScramCredentialsResult| {
        let infos = result.credential_infos.iter().map(|info| (info.mechanism, info.iterations));
        (result.user.to_string(), result.error_code, infos.collect())
    };
    answer.results.iter().map(one).collect()
}

#[test]
fn a_stored_user_authenticates_until_it_is_deleted_also_after_a_restart() {
    let server = guarded(None);
    assert_eq!(alter(&mut admin(&server), vec![], vec![upsertion("eve", "apple")]), [0]);
    let server = server.restart_with(|_| {}, |config| config.auth = Some(auth(None)));
    let eve = |server: &Server, password| scram(&mut Raw::connect(server), ("eve", password), Mechanism::ScramSha512);
    assert_eq!(eve(&server, "apple"), 0);
    assert_eq!(eve(&server, "pear"), SASL_AUTHENTICATION_FAILED);
    assert_eq!(alter(&mut admin(&server), vec![deletion("eve", SHA512)], vec![]), [0]);
    assert_eq!(eve(&server, "apple"), SASL_AUTHENTICATION_FAILED);
}

#[test]
fn a_stored_credential_comes_before_that_of_the_configuration() {
    let server = guarded(None);
    let mut raw = admin(&server);
    assert_eq!(alter(&mut raw, vec![], vec![upsertion("bob", "apple")]), [0]);
    let bob = |password| scram(&mut Raw::connect(&server), ("bob", password), Mechanism::ScramSha512);
    assert_eq!((bob("apple"), bob("eraser")), (0, SASL_AUTHENTICATION_FAILED));
    assert_eq!(alter(&mut raw, vec![deletion("bob", SHA512)], vec![]), [0]);
    assert_eq!((bob("apple"), bob("eraser")), (SASL_AUTHENTICATION_FAILED, 0));
}

#[test]
fn users_are_listed_with_mechanisms_and_iterations() {
    let server = guarded(None);
    let mut raw = admin(&server);
    alter(&mut raw, vec![], vec![upsertion("bob", "x"), upsertion("eve", "x")]);
    let both = |long| vec![(SHA256, 4_096), (SHA512, long)];
    let ann = ("ann".to_owned(), 0, both(4_096));
    assert_eq!(
        describe(&mut raw, &[]),
        [ann.clone(), ("bob".to_owned(), 0, both(8_192)), ("eve".to_owned(), 0, vec![(SHA512, 8_192)])]
    );
    let nobody = ("nobody".to_owned(), RESOURCE_NOT_FOUND, vec![]);
    assert_eq!(describe(&mut raw, &["nobody", "ann"]), [ann, nobody]);
    assert_eq!(describe(&mut raw, &["ann", "ann"]), [("ann".to_owned(), DUPLICATE_RESOURCE, vec![])]);
}

#[test]
fn impossible_alterations_change_nothing() {
    let server = guarded(None);
    let mut raw = admin(&server);
    let few = upsertion("eve", "x").with_iterations(1_024);
    assert_eq!(alter(&mut raw, vec![], vec![few]), [UNACCEPTABLE_CREDENTIAL]);
    let short = upsertion("eve", "x").with_mechanism(SHA256);
    assert_eq!(alter(&mut raw, vec![], vec![short]), [UNACCEPTABLE_CREDENTIAL]);
    assert_eq!(alter(&mut raw, vec![], vec![upsertion("", "x")]), [UNACCEPTABLE_CREDENTIAL]);
    let twice = alter(&mut raw, vec![deletion("eve", SHA512)], vec![upsertion("eve", "x")]);
    assert_eq!(twice, [DUPLICATE_RESOURCE]);
    let gone = alter(&mut raw, vec![deletion("ann", SHA512), deletion("eve", SHA256)], vec![]);
    assert_eq!(gone, [UNACCEPTABLE_CREDENTIAL, RESOURCE_NOT_FOUND]);
    assert_eq!(describe(&mut raw, &[]).len(), 2);
}

#[test]
fn access_lists_are_refused_as_by_kafka_without_an_authorizer() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.send(ApiKey::DescribeAcls, 1, &DescribeAclsRequest::default());
    let answer = DescribeAclsResponse::decode(&mut raw.receive(), 1).unwrap();
    assert_eq!(answer.error_code, SECURITY_DISABLED);
    let request = CreateAclsRequest::default().with_creations(vec![AclCreation::default(); 2]);
    raw.send(ApiKey::CreateAcls, 1, &request);
    let answer = CreateAclsResponse::decode(&mut raw.receive(), 1).unwrap();
    assert_eq!(answer.results.iter().map(|result| result.error_code).collect::<Vec<_>>(), [SECURITY_DISABLED; 2]);
}
