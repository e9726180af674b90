//! Where a stream lies: in the partition that the clients of most languages, and Kafka's own, put its key into.

/// The partition of a key, where there are so many.
pub(crate) fn partition_of(key: &str, partitions: u16) -> i32 {
    let place = (murmur2(key.as_bytes()) & 0x7fff_ffff) % u32::from(partitions.max(1));
    // Less than 65,536.
    place.cast_signed()
}

/// The hash of Kafka's clients: MurmurHash2, with a seed of theirs.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;
    // The length counts modulo 2^32.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mixed = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ mixed;
    }
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use rdkafka::ClientContext;
    use rdkafka::config::ClientConfig;
    use rdkafka::message::{DeliveryResult, Message};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

    use super::*;

    /// Values of Kafka's own clients.
    #[test]
    fn the_hash_is_that_of_kafka() {
        for (key, hash) in [
            ("kafka", 0xd067_cf64),
            ("giberish123456789", 0x8f55_2b0c),
            ("1234", 0x9fc9_7b14),
            ("234", 0xe7c0_09ca),
            ("34", 0x8739_30da),
            ("4", 0x5a4b_5ca1),
            ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c),
            ("reAmbleWillBeRemoved,ThePrePartThatIs", 0x4a62_b377),
            ("eAmbleWillBeRemoved,ThePrePartThatIs", 0xe0e4_e09e),
            ("AmbleWillBeRemoved,ThePrePartThatIs", 0x62b8_b43f),
            ("", 0x106e_08d9),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[derive(Default)]
    struct Places(Mutex<Vec<(String, i32)>>);

    impl ClientContext for Places {}

    impl ProducerContext for Places {
        type DeliveryOpaque = ();

        fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
            let message = result.as_ref().expect("delivered");
            let key = String::from_utf8_lossy(message.key().expect("a key")).into_owned();
            self.0.lock().expect("no panic").push((key, message.partition()));
        }
    }

    /// What was published by its choice stays where it is.
    #[test]
    fn a_stream_lies_where_librdkafka_puts_it() {
        const PARTITIONS: u16 = 7;
        let cluster = MockCluster::new(1).expect("brokers");
        cluster.create_topic("events", i32::from(PARTITIONS), 1).expect("a topic");
        let producer: BaseProducer<Places> = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("partitioner", "murmur2_random")
            .create_with_context(Places::default())
            .expect("a producer");
        for nth in 0..100 {
            let key = format!("order-{}ä", "x".repeat(nth));
            producer
                .send(BaseRecord::to("events").key(&key).payload(""))
                .map_err(|(error, _)| error)
                .expect("taken");
        }
        producer.flush(Duration::from_secs(20)).expect("delivered");
        let places = producer.context().0.lock().expect("no panic");
        assert_eq!(places.len(), 100);
        for (key, partition) in places.iter() {
            assert_eq!(partition_of(key, PARTITIONS), *partition, "{key}");
        }
    }
}
