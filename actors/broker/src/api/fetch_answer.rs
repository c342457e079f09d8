//! A fetch response in pieces: large records are sent from where they are, not copied beside the rest.
//!
//! The records are the last field of a partition, partitions the last of a topic and topics the last of the response,
//! each before the tagged fields of flexible versions. So everything else is encoded with an empty last field, and its
//! end is replaced.

use bytes::{BufMut, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::fetch::Fetched;
use crate::log::Records;
use crate::wire::{Answer, Frame, Malformed};

/// Records below this are cheaper to copy than to send by themselves.
const WORTH_A_PIECE_BYTES: usize = 16 << 10;
/// First version with compact lengths and tagged fields.
const FIRST_FLEXIBLE: i16 = 12;
/// Bytes that a partition takes beside its records, about.
const PARTITION_BYTES: usize = 64;

/// Encodes a response with its length and header.
///
/// # Errors
/// A field that the version of the request cannot express.
pub(super) fn encode(frame: &Frame, fetched: Fetched) -> Result<Answer, Malformed> {
    let Fetched { mut response, records } = fetched;
    let mut records = records.into_iter();
    let topics = std::mem::take(&mut response.responses);
    let mut pieces = Pieces { frame, done: Vec::new(), open: BytesMut::new() };
    pieces.open.put_i32(0);
    frame.encode_header(&mut pieces.open)?;
    pieces.put_up_to_last(&response, topics.len())?;
    for mut topic in topics {
        let partitions = std::mem::take(&mut topic.partitions);
        pieces.put_up_to_last(&topic, partitions.len())?;
        for partition in partitions {
            let records = records.next().unwrap_or_default();
            pieces.put_up_to_last(&partition, records.len())?;
            pieces.put_records(records);
            pieces.close();
        }
        pieces.close();
    }
    pieces.close();
    pieces.finish()
}

struct Pieces<'a> {
    frame: &'a Frame,
    done: Vec<Records>,
    open: BytesMut,
}

impl Pieces<'_> {
    fn is_flexible(&self) -> bool {
        self.frame.version >= FIRST_FLEXIBLE
    }

    /// Everything of a message before the elements of its last field, of which there are `length`.
    fn put_up_to_last(&mut self, message: &impl Encodable, length: usize) -> Result<(), Malformed> {
        self.open.reserve(PARTITION_BYTES);
        self.frame.encode_body(&mut self.open, message)?;
        // An empty field is a length and, in flexible versions, followed by the number of tagged fields.
        let empty = if self.is_flexible() { 2 } else { 4 };
        self.open.truncate(self.open.len().saturating_sub(empty));
        let too_long = |_| Malformed::new("a response is too long");
        if self.is_flexible() {
            put_varint(&mut self.open, u32::try_from(length + 1).map_err(too_long)?);
        } else {
            self.open.put_i32(i32::try_from(length).map_err(too_long)?);
        }
        Ok(())
    }

    fn put_records(&mut self, records: Records) {
        match records {
            Records::Memory(records) if records.len() < WORTH_A_PIECE_BYTES => self.open.put_slice(&records),
            records => {
                self.done.push(Records::Memory(self.open.split().freeze()));
                self.done.push(records);
            }
        }
    }

    /// Ends a message: it has no tagged fields.
    fn close(&mut self) {
        if self.is_flexible() {
            self.open.put_u8(0);
        }
    }

    fn finish(mut self) -> Result<Answer, Malformed> {
        self.done.push(Records::Memory(self.open.freeze()));
        let bytes: usize = self.done.iter().map(Records::len).sum();
        let length = i32::try_from(bytes - 4).map_err(|e| Malformed::new(e.to_string()))?;
        if let Some(Records::Memory(first)) = self.done.first_mut() {
            let mut head = BytesMut::from(&first[..]);
            head[..4].copy_from_slice(&length.to_be_bytes());
            *first = head.freeze();
        }
        Ok(Answer::of(self.done))
    }
}

fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use bytes::Bytes;
    use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::{ApiKey, FetchResponse, ProducerId, RequestHeader, TopicName};
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::log::slice::FileSlice;

    fn frame(version: i16) -> Frame {
        let mut bytes = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(ApiKey::Fetch as i16)
            .with_request_api_version(version)
            .with_correlation_id(77);
        header.encode(&mut bytes, ApiKey::Fetch.request_header_version(version)).unwrap();
        Frame::parse(bytes.freeze()).unwrap()
    }

    fn partition(index: i32, records: usize) -> PartitionData {
        let aborted = AbortedTransaction::default().with_producer_id(ProducerId(4)).with_first_offset(9);
        PartitionData::default()
            .with_partition_index(index)
            .with_high_watermark(300)
            .with_aborted_transactions(Some(vec![aborted]))
            .with_records(Some(vec![b'r'; records].into()))
    }

    /// The records taken out of a response; of every second partition they are in a file.
    fn fetched(mut response: FetchResponse) -> Fetched {
        let mut records = Vec::new();
        for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let taken = partition.records.replace(Bytes::new()).unwrap();
            records.push(if records.len() % 2 == 0 {
                Records::Memory(taken)
            } else {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(b"before").unwrap();
                file.write_all(&taken).unwrap();
                Records::File(FileSlice { file: Arc::new(file), position: 6, length: taken.len() })
            });
        }
        Fetched { response, records }
    }

    fn joined(answer: &Answer) -> Vec<u8> {
        answer.pieces().iter().flat_map(|piece| piece.clone().into_bytes().unwrap()).collect()
    }

    #[test]
    fn pieces_are_what_the_codec_writes_in_every_version() {
        for version in 4..=FIRST_FLEXIBLE {
            for sizes in [vec![], vec![vec![]], vec![vec![0], vec![100, 20_000, 3]], vec![vec![70_000, 16 << 10]]] {
                let topic = |sizes: &Vec<usize>| {
                    let partitions = (0..).zip(sizes).map(|(i, size)| partition(i, *size));
                    FetchableTopicResponse::default()
                        .with_topic(TopicName(StrBytes::from_static_str("topic")))
                        .with_partitions(partitions.collect())
                };
                let response = FetchResponse::default().with_responses(sizes.iter().map(topic).collect());
                let frame = frame(version);
                let whole = frame.encode(&response).unwrap();
                let answer = encode(&frame, fetched(response)).unwrap();
                assert_eq!(answer.len(), whole.len());
                assert_eq!(joined(&answer), joined(&whole), "v{version} {sizes:?}");
            }
        }
    }
}
