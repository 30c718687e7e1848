"""KEDA's `externalscaler` messages, as bytes and as values. The only file that knows protobuf.

The contract is KEDA's; its messages are declared here, so nothing is generated and nothing can be out of date. Fields
that are not declared (of later versions of KEDA) are skipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

SERVICE = "externalscaler.ExternalScaler"

_PACKAGE = "externalscaler"
_STRING = FieldDescriptorProto.TYPE_STRING
_BOOL = FieldDescriptorProto.TYPE_BOOL
_INT64 = FieldDescriptorProto.TYPE_INT64
_DOUBLE = FieldDescriptorProto.TYPE_DOUBLE


class Malformed(ValueError):
    """Bytes that are not the message they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledObject:
    """Which scaled object asks, and the `metadata` of its trigger."""

    name: str
    namespace: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuery:
    """What `metric` of a scaled object is."""

    scaled_object: ScaledObject
    metric: str


def scaled_object_from_bytes(raw: bytes) -> ScaledObject:
    """Raises Malformed."""
    return _scaled_object(_parse(_ScaledObjectRef, raw))


def metric_query_from_bytes(raw: bytes) -> MetricQuery:
    """Raises Malformed."""
    message = _parse(_GetMetricsRequest, raw)
    return MetricQuery(scaled_object=_scaled_object(message.scaledObjectRef), metric=message.metricName)


def bytes_from_active(active: bool) -> bytes:
    """An `IsActiveResponse`."""
    return _serialize(_IsActiveResponse(result=active))


def bytes_from_spec(metric: str, target: float) -> bytes:
    """A `GetMetricSpecResponse` with one metric. KEDA below 2.9 reads the whole number, later ones the other."""
    message = _GetMetricSpecResponse()
    message.metricSpecs.add(metricName=metric, targetSize=round(target), targetSizeFloat=target)
    return _serialize(message)


def bytes_from_value(metric: str, value: float) -> bytes:
    """A `GetMetricsResponse` with one metric, both as a whole number and not."""
    message = _GetMetricsResponse()
    message.metricValues.add(metricName=metric, metricValue=round(value), metricValueFloat=value)
    return _serialize(message)


def _parse(kind: Any, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise Malformed(str(error)) from error


def _serialize(message: Any) -> bytes:
    raw: bytes = message.SerializeToString(deterministic=True)
    return raw


def _scaled_object(message: Any) -> ScaledObject:
    return ScaledObject(name=message.name, namespace=message.namespace, metadata=dict(message.scalerMetadata))


def _field(name: str, number: int, kind: int, *, of: str = "", repeated: bool = False) -> FieldDescriptorProto:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = FieldDescriptorProto(name=name, number=number, label=label)
    field.type = FieldDescriptorProto.TYPE_MESSAGE if of else kind  # type: ignore[assignment]
    if of:
        field.type_name = f".{_PACKAGE}.{of}"
    return field


def _message(name: str, *fields: FieldDescriptorProto, nested: Sequence[DescriptorProto] = ()) -> DescriptorProto:
    return DescriptorProto(name=name, field=fields, nested_type=nested)


def _declare() -> DescriptorPool:
    entry = _message("ScalerMetadataEntry", _field("key", 1, _STRING), _field("value", 2, _STRING))
    entry.options.map_entry = True
    metadata = _field("scalerMetadata", 3, 0, of="ScaledObjectRef.ScalerMetadataEntry", repeated=True)
    messages = (
        _message(
            "ScaledObjectRef", _field("name", 1, _STRING), _field("namespace", 2, _STRING), metadata, nested=(entry,)
        ),
        _message("IsActiveResponse", _field("result", 1, _BOOL)),
        _message(
            "MetricSpec",
            _field("metricName", 1, _STRING),
            _field("targetSize", 2, _INT64),
            _field("targetSizeFloat", 3, _DOUBLE),
        ),
        _message("GetMetricSpecResponse", _field("metricSpecs", 1, 0, of="MetricSpec", repeated=True)),
        _message(
            "GetMetricsRequest",
            _field("scaledObjectRef", 1, 0, of="ScaledObjectRef"),
            _field("metricName", 2, _STRING),
        ),
        _message(
            "MetricValue",
            _field("metricName", 1, _STRING),
            _field("metricValue", 2, _INT64),
            _field("metricValueFloat", 3, _DOUBLE),
        ),
        _message("GetMetricsResponse", _field("metricValues", 1, 0, of="MetricValue", repeated=True)),
    )
    file = FileDescriptorProto(name="externalscaler.proto", package=_PACKAGE, syntax="proto3", message_type=messages)
    pool = DescriptorPool()
    pool.Add(file)
    return pool


def _class(pool: DescriptorPool, name: str) -> Any:
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_pool = _declare()
_ScaledObjectRef = _class(_pool, "ScaledObjectRef")
_IsActiveResponse = _class(_pool, "IsActiveResponse")
_GetMetricSpecResponse = _class(_pool, "GetMetricSpecResponse")
_GetMetricsRequest = _class(_pool, "GetMetricsRequest")
_GetMetricsResponse = _class(_pool, "GetMetricsResponse")
