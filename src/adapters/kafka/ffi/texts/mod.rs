//! What librdkafka knows and its Rust wrapper tells only as UTF-8 text: names of headers, and groups.
//!
//! The wrapper's accessors panic on a header's name, a group or a member that is not UTF-8, and those are a stranger's
//! bytes. Its other texts do no harm: names of topics and hosts of brokers are ASCII by Kafka's rules, and errors, log
//! lines and settings are read with replacement characters.

#[cfg(test)]
mod tests;

use std::{
    ffi::{CStr, CString, c_char, c_void},
    mem::offset_of,
    ptr, slice,
    time::Duration,
};

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_group_info, rd_kafka_group_list, rd_kafka_group_list_destroy, rd_kafka_group_member_info,
        rd_kafka_header_add, rd_kafka_header_get_all, rd_kafka_headers_t, rd_kafka_list_groups, rd_kafka_mem_free,
        rd_kafka_memberid, rd_kafka_version,
    },
    client::Client,
    error::{IsError, KafkaError},
    message::{BorrowedHeaders, OwnedHeaders},
    types::RDKafkaRespErr,
};
use streamward_pipeline::source::HeaderVisitor;

/// The version of librdkafka whose [`HeaderInMemory`] is known; with any other a name ends at its first NUL.
const KNOWN_VERSION: i32 = 0x020c_01ff;

/// `rd_kafka_header_t` of `rdkafka_header.h`: one allocation with the name and, behind it, the value.
#[repr(C)]
struct HeaderInMemory {
    serialized_size: usize,
    value_size: usize,
    name_size: usize,
    value: *const c_void,
    name: [c_char; 1],
}

/// Calls `each` with the name and the value of every header, in order. Names may have any bytes, NUL too.
pub fn for_each_header(headers: &BorrowedHeaders, each: &mut HeaderVisitor<'_>) {
    // The wrapper makes a reference of the C library's pointer, and the pointer of the reference in each of its calls.
    let headers = ptr::from_ref(headers).cast::<rd_kafka_headers_t>();
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` lives as long as the borrow, and the three places are ours.
        let found = unsafe { rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
        if found.is_error() {
            return;
        }
        // SAFETY: the header belongs to `headers`, which nobody changes while it is borrowed, and `name` is what the
        // library has just given for it.
        let name = unsafe { header_name(name, (value, size)) };
        // SAFETY: the library says that `size` bytes are at `value` if it is not null.
        let value = (!value.is_null()).then(|| unsafe { slice::from_raw_parts(value.cast::<u8>(), size) });
        each(name, value);
    }
}

/// The whole name of a header, of which the library's call tells only the beginning.
///
/// # Safety
/// `name`, `value` and its size must come from `rd_kafka_header_get_all`, and the headers must live for `'a`.
unsafe fn header_name<'a>(name: *const c_char, (value, size): (*const c_void, usize)) -> &'a [u8] {
    // SAFETY: names end with a NUL.
    let up_to_nul = unsafe { CStr::from_ptr(name) }.to_bytes();
    // SAFETY: it takes nothing and reads a constant.
    if unsafe { rd_kafka_version() } != KNOWN_VERSION {
        return up_to_nul;
    }
    // SAFETY: in this version the name is a field of the allocation that begins with the fields before it.
    let header = unsafe { &*name.byte_sub(offset_of!(HeaderInMemory, name)).cast::<HeaderInMemory>() };
    if header.value != value || header.value_size != size || header.name_size < up_to_nul.len() {
        return up_to_nul;
    }
    // SAFETY: the library has copied that many bytes to where the name begins.
    unsafe { slice::from_raw_parts(name.cast::<u8>(), header.name_size) }
}

/// Appends a header whose name may have any bytes.
pub fn add_header(headers: &mut OwnedHeaders, name: &[u8], value: Option<&[u8]>) {
    let list = ptr::from_ref(headers.as_borrowed()).cast::<rd_kafka_headers_t>().cast_mut();
    let size = |bytes: &[u8]| isize::try_from(bytes.len()).expect("no slice is longer");
    let (bytes, length) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), size(value)));
    // SAFETY: the list is ours alone, and the library copies name and value. A value of length 0 is not null.
    let added = unsafe { rd_kafka_header_add(list, name.as_ptr().cast(), size(name), bytes.cast(), length) };
    assert!(!added.is_error(), "a list of headers that is ours takes one more");
}

/// A consumer group as the cluster tells it; texts that are not UTF-8 have replacement characters.
pub struct Group {
    pub name: String,
    pub state: String,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<Member>,
}

/// A member of a group.
pub struct Member {
    pub id: String,
    pub client_id: String,
    pub host: String,
    /// In the consumer protocol, if the group has it.
    pub assignment: Vec<u8>,
}

/// All groups, or the one of a name; none has a name with a NUL.
///
/// # Errors
/// If the cluster does not answer in time. One group is told as soon as its broker has told it, whatever the others do.
pub fn groups<C: ClientContext>(
    client: &Client<C>,
    name: Option<&str>,
    timeout: Duration,
) -> Result<Vec<Group>, KafkaError> {
    let Ok(wanted) = name.map(CString::new).transpose() else { return Ok(Vec::new()) };
    let wanted = wanted.as_ref().map_or(ptr::null(), |name| name.as_ptr());
    let mut list: *const rd_kafka_group_list = ptr::null();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client outlives the call, as does the text; the place for the answer is ours.
    let answered = unsafe { rd_kafka_list_groups(client.native_ptr(), wanted, &mut list, millis) };
    // Where some brokers did not answer, the list is that of the others.
    let is_partial = answered == RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTIAL;
    let found = if list.is_null() || (answered.is_error() && !is_partial) {
        Vec::new()
    } else {
        // SAFETY: the library made it, and it is ours until it is destroyed.
        let list = unsafe { &*list };
        // SAFETY: the count belongs to the array.
        let groups: &[rd_kafka_group_info] = unsafe { array(list.groups, list.group_cnt) };
        // SAFETY: the texts and members of a group live as long as the list.
        groups.iter().map(|group| unsafe { owned(group) }).collect()
    };
    if !list.is_null() {
        // SAFETY: the library gave it, and nothing borrows from it any more.
        unsafe { rd_kafka_group_list_destroy(list) };
    }
    let is_answer = !answered.is_error() || (is_partial && !wanted.is_null() && !found.is_empty());
    if is_answer { Ok(found) } else { Err(KafkaError::GroupListFetch(answered.into())) }
}

/// The id that its group has given to a client; none before.
pub fn member_id<C: ClientContext>(client: &Client<C>) -> Option<String> {
    let rk = client.native_ptr();
    // SAFETY: `rk` is valid as long as `client` is borrowed; the text is null or ends with a NUL, and it is ours.
    let id = unsafe {
        let text = rd_kafka_memberid(rk);
        let id = lossy(text);
        if !text.is_null() {
            rd_kafka_mem_free(rk, text.cast());
        }
        id
    };
    Some(id).filter(|id| !id.is_empty())
}

/// # Safety
/// The group must be one of a list that has not been destroyed.
unsafe fn owned(group: &rd_kafka_group_info) -> Group {
    let member = |member: &rd_kafka_group_member_info| {
        // SAFETY: the size belongs to the bytes.
        let assignment: &[u8] = unsafe { array(member.member_assignment.cast(), member.member_assignment_size) };
        // SAFETY: each is null or ends with a NUL.
        let [id, client_id, host] =
            [member.member_id, member.client_id, member.client_host].map(|text| unsafe { lossy(text) });
        Member { id, client_id, host, assignment: assignment.to_vec() }
    };
    // SAFETY: the count belongs to the array, and the texts are null or end with a NUL.
    unsafe {
        Group {
            name: lossy(group.group),
            state: lossy(group.state),
            protocol_type: lossy(group.protocol_type),
            protocol: lossy(group.protocol),
            members: array(group.members, group.member_cnt).iter().map(member).collect(),
        }
    }
}

/// # Safety
/// `first` must be null or the first of `count` values that live for `'a`.
unsafe fn array<'a, T>(first: *const T, count: i32) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: by the caller's promise.
        Ok(count) if !first.is_null() => unsafe { slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

/// # Safety
/// `text` must be null or end with a NUL.
unsafe fn lossy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
