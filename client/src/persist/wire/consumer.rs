//! Consumers: a reader whose place the service keeps, and that several processes share.

use serde::{Deserialize, Serialize};

use super::record::StoredRecord;

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With the oldest record.
    #[default]
    First,
    /// With what is appended from now on.
    New,
    /// With this number.
    Seq(u64),
    /// With what was accepted at this time or later, in milliseconds since 1970.
    Time(u64),
}

/// How a consumer delivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerConfig {
    /// For people; at most [`DESCRIPTION_LEN_MAX`](super::DESCRIPTION_LEN_MAX) bytes.
    pub description: String,
    /// Where it begins. Fixed for ever.
    pub start: StartAt,
    /// Only records whose key begins like this. Fixed for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A delivery that is not acknowledged within this many milliseconds is made again; 30,000 by default, from 100 to
    /// 86,400,000.
    pub ack_wait: u64,
    /// Most deliveries that wait for an acknowledgement; 1,000 by default, at most 10,000.
    pub max_ack_pending: u32,
    /// After this many deliveries a record is given up; 0 is never.
    pub max_deliveries: u32,
    /// The stream to which records go that are given up or terminated, with the headers `dead_letter_*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            description: String::new(),
            start: StartAt::First,
            prefix: None,
            ack_wait: 30_000,
            max_ack_pending: 1_000,
            max_deliveries: 0,
            dead_letter: None,
        }
    }
}

/// Makes a consumer, or changes what may change of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerCreate {
    /// The name of the stream.
    pub stream: String,
    /// The name of the consumer.
    pub consumer: String,
    /// How it delivers.
    pub config: ConsumerConfig,
    /// A consumer that is there already takes over the settings, provided that `start` and `prefix` are the same.
    pub exist_ok: bool,
}

/// Describes a consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerShow {
    /// The name of the stream.
    pub stream: String,
    /// The name of the consumer.
    pub consumer: String,
}

/// Lists the consumers of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerList {
    /// The name of the stream.
    pub stream: String,
}

/// Deletes a consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerDelete {
    /// The name of the stream.
    pub stream: String,
    /// The name of the consumer.
    pub consumer: String,
}

/// Takes deliveries. It is answered at once when there is one, and else as soon as there is, or empty after `wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fetch {
    /// The name of the stream.
    pub stream: String,
    /// The name of the consumer.
    pub consumer: String,
    /// Most deliveries; at least 1, at most 10,000.
    pub max_msgs: u32,
    /// The answer ends when its records have this many bytes; one record always fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// How long to wait for a delivery, in milliseconds; at most [`WAIT_MS_MAX`](super::WAIT_MS_MAX).
    pub wait: u32,
}

/// What is said about deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckKind {
    /// Done.
    Ack,
    /// Not done: to be delivered again after this many milliseconds.
    Nack(u64),
    /// Still being worked on: the deadline begins anew.
    Progress,
    /// Never to be delivered again, though not done; it goes to the dead-letter stream.
    Terminate,
}

/// Says something about deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The name of the stream.
    pub stream: String,
    /// The name of the consumer.
    pub consumer: String,
    /// The deliveries, each as its number and its token; at most 10,000.
    pub deliveries: Vec<(u64, u64)>,
    /// What is said.
    pub kind: AckKind,
}

/// The answer to an acknowledgement, when it is as durable as the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// How many deliveries it concerned.
    pub count: u32,
    /// The numbers of those that are not pending any more under their token: acknowledged before, or delivered again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_pending: Vec<u64>,
}

/// A record that is to be worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The record.
    pub record: StoredRecord,
    /// Proves that an acknowledgement is of this delivery and not of an earlier one.
    pub token: u64,
    /// How often the record was delivered, with this time.
    pub deliveries: u32,
    /// Until when it is to be acknowledged.
    pub deadline: u64,
}

/// The answer to a fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Deliveries, oldest first.
    pub deliveries: Vec<Delivery>,
    /// How many records the consumer has not delivered yet.
    pub pending: u64,
}

/// A consumer as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerInfo {
    /// The name of the stream.
    pub stream: String,
    /// The name of the consumer.
    pub consumer: String,
    /// How it delivers.
    pub config: ConsumerConfig,
    /// When it was made.
    pub created: u64,
    /// Every record up to this number is done with.
    pub ack_floor: u64,
    /// The last number that was delivered.
    pub delivered: u64,
    /// How many deliveries wait for an acknowledgement.
    pub ack_pending: u64,
    /// How many deliveries are to be made again.
    pub redelivering: u64,
    /// How many records it has not delivered yet; with a prefix, at most.
    pub pending: u64,
}

/// The answer to a list of consumers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerNames {
    /// Their names, in the order of their bytes.
    pub consumers: Vec<String>,
}
