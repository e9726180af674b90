"""Reads a topic to its end, as somebody does who knows Kafka and CloudEvents, and nothing of Daybook.

Prints a line of JSON for each message: the key, the trace, and the event that the SDK of CloudEvents finds in the message.
"""

import json
import sys

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, KafkaError, KafkaException


def read(brokers, topic):
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": f"{topic}-python",
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })
    partitions = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    consumer.subscribe([topic])
    while partitions:
        message = consumer.poll(30)
        if message is None:
            sys.exit(f"nothing comes of the partitions {partitions}")
        if (error := message.error()) is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            partitions.discard(message.partition())
        else:
            raise KafkaException(error)
    consumer.close()


for message in read(*sys.argv[1:]):
    headers = dict(message.headers())
    trace = headers.get("traceparent", b"").decode() or None
    binary = KafkaMessage(headers=headers, key=message.key(), value=message.value())
    # Refuses what is no valid event.
    event = from_binary(binary, JSONFormat())
    attributes = event.get_attributes() | {"time": event.get_time().isoformat(timespec="microseconds")}
    line = {"key": message.key().decode(), "trace": trace, "attributes": attributes, "data": event.get_data()}
    print(json.dumps(line))
