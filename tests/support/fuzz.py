"""Random requests: messages filled with values that are nearly right, and valid bytes made wrong."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from support.serving import SCHEMA, SEARCH

from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp

REQUESTS: dict[str, type[Message]] = {
    "RankingService/Rank": pb.RankRequest,
    "RankingService/BatchRank": pb.BatchRankRequest,
    "RankingService/Score": pb.ScoreRequest,
    "SignalService/WriteSignals": sp.WriteSignalsRequest,
    "SignalService/GetSignals": sp.GetSignalsRequest,
    "SignalService/DeleteSignals": sp.DeleteSignalsRequest,
    "SignalService/DescribeSchema": sp.DescribeSchemaRequest,
}

NAMES = (
    *SCHEMA.entities,
    *SCHEMA.entities["item"].signals,
    *SEARCH.columns,
    *SEARCH.context,
    *("search", "plain", "i0", "i1", "i2", "i3", "u1", "", " ", "a\x00b", "\U0001f600", "İ", "x" * 600),
)

FLOATS = (0.0, -0.0, 1.0, 2.5, -7.0, 1e-45, 3e38, float("nan"), float("inf"), -float("inf"), 1e300)
COUNTS = (0, 1, 2, 3, 4, 7)


def scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    """A value of the field's type: small, an extreme, or a name that means something somewhere."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return rng.choice(NAMES)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        value = rng.choice(FLOATS)
        return min(max(value, -3e38), 3e38) if kind == FieldDescriptor.CPPTYPE_FLOAT and abs(value) == 1e300 else value
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    bits = 31 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM) else 32
    if kind == FieldDescriptor.CPPTYPE_INT64:
        return rng.choice((0, 1, -1, 1_700_000_000, 1_700_000_000_000, -(2**63), 2**63 - 1, 253402300800))
    return rng.choice((0, 1, 2, 3, 4, 5, 2**bits - 1))


def fill(message: Message, rng: random.Random, chance: float) -> None:
    """Sets each field with a chance, without regard to what it means."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() > chance:
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            for _ in range(rng.choice(COUNTS)):
                key = rng.choice(NAMES)
                if inner.message_type is None:
                    value[key] = scalar(inner, rng)
                else:
                    fill(value[key], rng, chance)
        elif field.is_repeated:
            for _ in range(rng.choice(COUNTS)):
                if field.message_type is None:
                    value.append(scalar(field, rng))
                else:
                    fill(value.add(), rng, chance)
        elif field.message_type is not None:
            value.SetInParent()
            fill(value, rng, chance)
        else:
            setattr(message, field.name, scalar(field, rng))


def valid_rank(rng: random.Random, message: Any) -> Any:
    """A request (Rank or Score) that can be answered."""
    count = rng.choice((0, 1, 2, 7, 40))
    message.profile = rng.choice(("search", "plain"))
    message.user.user_id = "u1"
    message.query.text = rng.choice(("red shoe", ""))
    message.candidates.ids.extend(f"i{i}" for i in rng.sample(range(60), count))
    message.candidates.columns.add(name="bm25").values.extend(rng.random() for _ in range(count))
    if message.profile == "search":
        message.context_features["hour"].number = 3.0
        message.context_features["taste"].vector.values.extend((1.0, 0.5, 0.25))
        message.context_features["likes"].set.values.extend(("t1", "t2"))
    if isinstance(message, pb.RankRequest):
        message.page_size = rng.choice((1, 2, count + 1))
        message.view = rng.choice((1, 2, 3))
    return message


def valid_write(rng: random.Random) -> sp.WriteSignalsRequest:
    """A write of every kind of signal to some of 60 items."""
    ids = [f"i{i}" for i in rng.sample(range(60), rng.choice((1, 2, 9)))]
    n = len(ids)
    column = sp.SignalColumn
    return sp.WriteSignalsRequest(
        entity="item",
        ids=ids,
        columns=[
            column(signal="price", floats=sp.FloatValues(values=[1.5] * n)),
            column(signal="stock", ints=sp.IntValues(values=[3] * n)),
            column(signal="listed", timestamps=sp.TimestampValues(unix_millis=[1_700_000_000_000] * n)),
            column(signal="fresh", bools=sp.BoolValues(values=[True] * n)),
            column(signal="brand", strings=sp.StringValues(values=["acme"] * n)),
            column(signal="title", strings=sp.StringValues(values=["red shoe"] * n)),
            column(signal="vector", embeddings=sp.EmbeddingValues(dimension=3, values=[1.0, 0.0, 2.0] * n)),
            column(signal="tags", sets=sp.SetValues(values=["t1", "t2"] * n, lengths=[2] * n)),
            column(signal="weights", maps=sp.MapValues(keys=["t1"] * n, values=[0.5] * n, lengths=[1] * n)),
        ],
    )


def valid(method: str, rng: random.Random) -> Message:
    """A request that can be answered."""
    if method == "RankingService/Rank":
        return valid_rank(rng, pb.RankRequest())
    if method == "RankingService/Score":
        return valid_rank(rng, pb.ScoreRequest())
    if method == "RankingService/BatchRank":
        common = valid_rank(rng, pb.RankRequest())
        lists = [pb.BatchRankRequest.List(candidates=common.candidates) for _ in range(rng.choice((1, 3)))]
        common.ClearField("candidates")
        return pb.BatchRankRequest(common=common, lists=lists)
    if method == "SignalService/WriteSignals":
        return valid_write(rng)
    ids = [f"i{i}" for i in rng.sample(range(60), 3)]
    if method == "SignalService/GetSignals":
        return sp.GetSignalsRequest(
            entity="item", ids=ids, signals=rng.sample(list(SCHEMA.entities["item"].signals), 3)
        )
    if method == "SignalService/DeleteSignals":
        return sp.DeleteSignalsRequest(entity="item", ids=ids)
    return sp.DescribeSchemaRequest()


def messages_in(message: Message) -> list[Message]:
    """The message and all in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in list(value):
                    found += messages_in(value[key])
        elif field.is_repeated:
            for one in value:
                found += messages_in(one)
        else:
            found += messages_in(value)
    return found


def perturb(message: Message, rng: random.Random) -> None:
    """Changes one field somewhere: sets it, clears it, or makes a list one longer or shorter."""
    target = rng.choice(messages_in(message))
    if not target.DESCRIPTOR.fields:
        return
    field = rng.choice(target.DESCRIPTOR.fields)
    value = getattr(target, field.name)
    if field.message_type is not None:
        if rng.random() < 0.3:
            target.ClearField(field.name)
        elif not field.is_repeated:
            fill(value, rng, 0.5)
        elif not field.message_type.GetOptions().map_entry:
            fill(value.add(), rng, 0.7)
    elif not field.is_repeated:
        setattr(target, field.name, scalar(field, rng))
    elif len(value) and rng.random() < 0.4:
        del value[rng.randrange(len(value))]
    elif len(value) and rng.random() < 0.6:
        value[rng.randrange(len(value))] = scalar(field, rng)
    else:
        value.append(scalar(field, rng))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Valid bytes with a few changed, lost, doubled or made up."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0:
                del out[at:]
            case 1:
                del out[at : at + rng.choice((1, 4))]
            case 2:
                out[at:at] = rng.randbytes(rng.choice((1, 3, 11)))
            case 3:
                out[at:at] = out[at : at + rng.choice((2, 16))]
            case _ if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def request(rng: random.Random) -> tuple[str, bytes]:
    """A method and bytes for it: valid, perturbed, filled at random or mutated."""
    method = rng.choice(list(REQUESTS))
    how = rng.random()
    if how < 0.1:
        message = REQUESTS[method]()
        fill(message, rng, rng.choice((0.3, 0.7)))
        return method, message.SerializeToString()
    message = valid(method, rng)
    if how < 0.6:
        for _ in range(rng.choice((1, 1, 2, 4))):
            perturb(message, rng)
        return method, message.SerializeToString()
    data = message.SerializeToString()
    return method, (mutate(data, rng) if how < 0.9 else data)
