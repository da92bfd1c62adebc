"""Recorded files as other programs read them: with the reference readers of MCAP and Rerun."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from rerun.chunk import RrdReader


def messages(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Topic -> (time [ns], message), in order; a JSON message as its text."""
    found = defaultdict(list)
    with path.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for schema, channel, message in reader.iter_messages():
            text = channel.message_encoding == "json"
            decoded = message.data.decode() if text else reader_decode(reader, schema, channel, message)
            found[channel.topic].append((message.log_time, decoded))
    return found


def reader_decode(reader: Any, schema: Any, channel: Any, message: Any) -> Any:
    decode = DecoderFactory().decoder_for(channel.message_encoding, schema)
    assert decode is not None, f"no decoder for {schema.name}"
    return decode(message.data)


def columns(path: Path) -> dict[str, dict[str, list[Any]]]:
    """Entity -> column -> rows of a Rerun recording."""
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for chunk in RrdReader(str(path)).stream().to_chunks():
        for name, rows in chunk.to_record_batch().to_pydict().items():
            found[chunk.entity_path][name] += rows
    return found


def xyz(vector: Any) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z])
