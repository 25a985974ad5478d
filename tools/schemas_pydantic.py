#!/usr/bin/env python3
"""Schemas that Pydantic makes of the types in its documentation, each with a value that it accepts and one that it
does not: golden data for crates/lightglm-serve/tests/structured/schemas.rs. Version 1.

    pip install 'pydantic[email]' jsonschema
    tools/schemas_pydantic.py > crates/lightglm-serve/tests/data/schemas/pydantic.json
"""

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import typing
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar, Union

import jsonschema
import pydantic
from pydantic import AliasChoices, Base64Bytes, BaseModel, ByteSize, ConfigDict, Discriminator, Field, RootModel, Tag, TypeAdapter
from pydantic.networks import AnyUrl, EmailStr, HttpUrl, IPvAnyAddress, NameEmail
from pydantic.types import (
    AwareDatetime, FutureDate, Json, PastDate, PaymentCardNumber, SecretBytes, SecretStr, StringConstraints, conbytes, condecimal,
    confloat, conint, conlist, conset, constr,
)
from typing_extensions import NotRequired, TypeAliasType, TypedDict


class Fruit(str, enum.Enum):
    pear = "pear"
    banana = "banana"


class Tool(enum.IntEnum):
    spanner = 1
    wrench = 2


class Mixed(enum.Enum):
    a = "x"
    b = 7
    c = None


class User(BaseModel):
    id: int
    name: str = "Jane Doe"
    signup_ts: Optional[datetime.datetime] = None
    tastes: dict[str, Annotated[int, Field(gt=0)]] = {}


class Cat(BaseModel):
    pet_type: Literal["cat"]
    meows: int


class Dog(BaseModel):
    pet_type: Literal["dog"]
    barks: float


class Lizard(BaseModel):
    pet_type: Literal["reptile", "lizard"]
    scales: bool


class Discriminated(BaseModel):
    pet: Union[Cat, Dog, Lizard] = Field(discriminator="pet_type")
    n: int


class BlackCat(BaseModel):
    pet_type: Literal["cat"]
    color: Literal["black"]


class WhiteCat(BaseModel):
    pet_type: Literal["cat"]
    color: Literal["white"]


class Nested(BaseModel):
    pet: Annotated[Union[Annotated[Union[BlackCat, WhiteCat], Field(discriminator="color")], Dog], Field(discriminator="pet_type")]


class ApplePie(BaseModel):
    fruit: Literal["apple"] = "apple"


class PumpkinPie(BaseModel):
    filling: Literal["pumpkin"] = "pumpkin"


class Thanksgiving(BaseModel):
    dessert: Annotated[
        Union[Annotated[ApplePie, Tag("apple")], Annotated[PumpkinPie, Tag("pumpkin")]],
        Discriminator(lambda v: v.get("fruit", v.get("filling")) if isinstance(v, dict) else getattr(v, "fruit", getattr(v, "filling", None))),
    ]


class Foo(BaseModel):
    count: int
    size: Optional[float] = None


class Bar(BaseModel):
    apple: str = "x"
    banana: str = "y"


class Spam(BaseModel):
    foo: Foo
    bars: list[Bar]


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Node(BaseModel):
    left: Optional["Node"] = None
    right: Optional["Node"] = None
    label: Annotated[str, Field(max_length=5)]


class Mutual(BaseModel):
    other: Optional["Counterpart"] = None


class Counterpart(BaseModel):
    back: Optional[Mutual] = None
    n: int


T = TypeVar("T")


class Response(BaseModel, Generic[T]):
    data: Optional[T] = None
    errors: list[str] = []


class Rectangle(BaseModel):
    width: int
    length: int

    @pydantic.computed_field
    @property
    def area(self) -> int:
        return self.width * self.length


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    user_name: str = Field(alias="userName")
    odd: int = Field(alias="a/b~c d%")
    first: str = Field(default="", validation_alias=AliasChoices("first", "one"))


class Forbid(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int


class Allow(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int
    __pydantic_extra__: dict[str, int] = Field(init=False)


class Extra(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"a": "A", "b": 2}], "deprecated": True, "x-unit": "m"})
    a: str = Field(description="An A", title="A", examples=["A"], deprecated=True, json_schema_extra={"example": "A", "readOnly": True})
    b: int = Field(default=3, json_schema_extra={"nullable": False})


class Numbers(BaseModel):
    positive: int = Field(gt=0)
    non_negative: int = Field(ge=0)
    negative: int = Field(lt=0)
    even: int = Field(multiple_of=2)
    love_for_pydantic: float = Field(gt=0, allow_inf_nan=False)
    ratio: Annotated[float, Field(ge=0, le=1)]
    cents: Annotated[float, Field(multiple_of=0.01)]


class Strings(BaseModel):
    short: str = Field(min_length=3)
    long: str = Field(max_length=10)
    regex: str = Field(pattern=r"^\d*$")
    upper: Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Z]+$")]


class Dates(BaseModel):
    at: datetime.datetime
    day: datetime.date
    time: datetime.time
    span: datetime.timedelta
    past: PastDate
    future: FutureDate
    aware: AwareDatetime


class Network(BaseModel):
    v4: ipaddress.IPv4Address
    v6: ipaddress.IPv6Address
    either: IPvAnyAddress
    net: ipaddress.IPv4Network
    interface: ipaddress.IPv6Interface
    url: AnyUrl
    http: HttpUrl
    email: EmailStr
    named: NameEmail


class Point(NamedTuple):
    x: int
    y: int = 0


class Movie(TypedDict):
    name: str
    year: NotRequired[int]


class ClosedMovie(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="forbid")
    name: typing.Required[str]
    year: int


@dataclasses.dataclass
class Standard:
    id: int
    name: str = "John Doe"
    friends: list[int] = dataclasses.field(default_factory=lambda: [0])


@pydantic.dataclasses.dataclass
class Constrained:
    n: Annotated[int, Field(ge=1, le=9)]
    tag: Literal["a", "b"] = "a"


class Pets(RootModel):
    root: list[str]


class Registry(RootModel[dict[Fruit, int]]):
    pass


class Password(BaseModel):
    password: SecretStr
    token: SecretBytes


class Encoded(BaseModel):
    data: Base64Bytes
    raw: bytes
    size: ByteSize
    path: pathlib.Path


class WithJson(BaseModel):
    any_json: Json
    ints: Json[list[int]]


class Inherited(User):
    kind: Literal[1, "one", True, None] = None


Jsonish = TypeAliasType("Jsonish", "Union[dict[str, Jsonish], list[Jsonish], str, int, float, bool, None]")
NOW = datetime.datetime(2032, 4, 23, 10, 20, 30, tzinfo=datetime.timezone.utc)

# Name, type, a value that it accepts (a keyword first where the serialization schema is meant), JSON that it refuses.
TYPES = [
    ("model", User, {"id": 123, "signup_ts": "2019-06-01 12:22Z", "tastes": {"wine": 9}}, {"id": "x"}),
    ("nested models", Spam, {"foo": {"count": 4}, "bars": [{"apple": "x1"}, {}]}, {"foo": {"count": 4}}),
    ("discriminated union", Discriminated, {"pet": {"pet_type": "dog", "barks": 3.14}, "n": 1}, {"pet": {"pet_type": "cow"}, "n": 1}),
    ("nested discriminated union", Nested, {"pet": {"pet_type": "cat", "color": "black"}}, {"pet": {"pet_type": "cat", "color": "red"}}),
    ("callable discriminator", Thanksgiving, {"dessert": {"filling": "pumpkin"}}, {"dessert": {"filling": "pear"}}),
    ("union", Union[int, str, list[float]], [1.5], {"a": 1}),
    ("smart union of models", Union[Foo, Bar], {"apple": "a", "banana": "b"}, 3),
    ("optional", Optional[int], None, "x"),
    ("str enum", Fruit, "pear", "plum"),
    ("int enum", Tool, 2, 3),
    ("mixed enum", Mixed, None, "b"),
    ("literal", Literal["a", 1, None], 1, "b"),
    ("literal of an enum", Literal[Fruit.pear], "pear", "banana"),
    ("inherited with literals", Inherited, {"id": 1, "kind": "one"}, {"id": 1, "kind": "two"}),
    ("numeric constraints", Numbers, {"positive": 1, "non_negative": 0, "negative": -1, "even": 2, "love_for_pydantic": 1.5, "ratio": 0.25,
        "cents": 0.5}, {"positive": 0, "non_negative": 0, "negative": -1, "even": 2, "love_for_pydantic": 1.5, "ratio": 0.25, "cents": 0.5}),
    ("string constraints", Strings, {"short": "foo", "long": "foobar", "regex": "123", "upper": "AB"},
        {"short": "fo", "long": "foobar", "regex": "123", "upper": "AB"}),
    ("decimal", condecimal(max_digits=5, decimal_places=2), decimal.Decimal("3.14"), {}),
    ("decimal field", Annotated[decimal.Decimal, Field(gt=0, lt=10)], decimal.Decimal("1.5"), {}),
    ("dates", Dates, {"at": NOW, "day": "2032-01-02", "time": "10:20:30Z", "span": "P3DT12H", "past": "2001-01-01", "future": "2999-01-01",
        "aware": NOW}, {"at": "yesterday"}),
    ("time", datetime.time, datetime.time(4, 8, 16, tzinfo=datetime.timezone.utc), 3.5),
    ("uuid", uuid.UUID, "16fd2706-8baf-433b-82eb-8c7fada847da", "16fd2706"),
    ("uuid4", pydantic.UUID4, "16fd2706-8baf-433b-82eb-8c7fada847da", "x"),
    ("network", Network, {"v4": "192.168.0.1", "v6": "2001:db8::1", "either": "10.0.0.1", "net": "192.168.0.0/24", "interface": "2001:db8::1/64",
        "url": "ftp://example.com/a", "http": "https://example.com/", "email": "a@example.com", "named": "Ann <a@example.com>"}, {"v4": "x"}),
    ("secrets", Password, {"password": "hunter2", "token": b"x"}, {"password": 1, "token": "x"}),
    ("encoded", Encoded, {"data": "aGVsbG8=", "raw": b"ab", "size": 3000, "path": "/tmp/x"}, {"data": 1}),
    ("json text", WithJson, {"any_json": '{"a": 1}', "ints": "[1, 2]"}, {"any_json": 3, "ints": "[]"}),
    ("set", set[int], [1, 2, 3], "x"),
    ("frozenset of enum", frozenset[Fruit], ["pear"], ["plum"]),
    ("tuple", tuple[int, str, bool], [1, "a", True], [1, "a"]),
    ("variadic tuple", tuple[int, ...], [1, 2, 3], ["a"]),
    ("empty tuple", tuple[()], [], [1]),
    ("named tuple", Point, [1, 2], ["a", 2]),
    ("deque", collections.deque[int], [1, 2], ["x"]),
    ("bounded list", Annotated[list[int], Field(min_length=2, max_length=3)], [1, 2], [1]),
    ("conlist", conlist(str, min_length=1), ["a"], []),
    ("conset", conset(int, min_length=1, max_length=2), [1], []),
    ("sequence", typing.Sequence[Point], [[1, 2]], [1]),
    ("dict", dict[str, int], {"a": 1}, {"a": "x"}),
    ("dict of int keys", dict[int, str], {1: "a"}, {"1": 5}),
    ("dict of enum keys", dict[Fruit, int], {"pear": 1}, {"pear": "x"}),
    ("dict of constrained keys", dict[Annotated[str, Field(pattern="^[a-z]+$", max_length=8)], int], {"ab": 1}, {"ab": "x"}),
    ("dict of uuid keys", dict[uuid.UUID, list[int]], {"16fd2706-8baf-433b-82eb-8c7fada847da": [1]}, {"a": 1}),
    ("bounded dict", Annotated[dict[str, int], Field(min_length=1)], {"a": 1}, {}),
    ("default dict", collections.defaultdict[str, list[int]], {"a": [1]}, {"a": 1}),
    ("ordered dict", collections.OrderedDict[str, float], {"a": 1.5}, {"a": "x"}),
    ("counter", typing.Counter[str], {"a": 2}, {"a": "x"}),
    ("recursive model", Tree, {"value": 1, "children": [{"value": 2}]}, {"value": 1, "children": [{}]}),
    ("two-way recursive model", Node, {"left": {"label": "a"}, "label": "root"}, {"label": "too long"}),
    ("mutually recursive models", Mutual, {"other": {"back": {}, "n": 1}}, {"other": {"back": {}}}),
    ("recursive alias", Jsonish, {"a": [1, "b", None]}, None),
    ("generic of int", Response[int], {"data": 1}, {"data": "a"}),
    ("generic of model", Response[Tree], {"data": {"value": 1}, "errors": ["e"]}, {"data": {"value": "x"}}),
    ("computed field", ("serialization", Rectangle), {"width": 3, "length": 2}, {"width": 3, "length": 2, "area": "x"}),
    ("aliases", Aliased, {"userName": "ann", "a/b~c d%": 2}, {"user_name": "ann"}),
    ("extra forbidden", Forbid, {"x": 1}, {"x": 1, "y": 2}),
    ("extra of a type", Allow, {"x": 1, "y": 2}, {"x": 1, "y": "b"}),
    ("annotations", Extra, {"a": "A"}, {"a": 1}),
    ("root model", Pets, ["dog", "cat"], [1]),
    ("root model of a dict", Registry, {"banana": 2}, {"banana": "x"}),
    ("typed dict", Movie, {"name": "m", "year": 1972}, {"year": 1972}),
    ("closed typed dict", ClosedMovie, {"name": "m"}, {"name": "m", "x": 1}),
    ("dataclass", Standard, {"id": 42}, {"name": "x"}),
    ("constrained dataclass", Constrained, {"n": 3}, {"n": 10}),
    ("conint", conint(gt=0, le=100, multiple_of=5), 15, 16),
    ("confloat", confloat(gt=-1.5, lt=2.5), 0.5, 2.5),
    ("constr", constr(min_length=2, max_length=4, pattern=r"^\w+$"), "abc", "a"),
    ("constr with an odd pattern", constr(pattern=r"^(red|green)-[0-9a-f]{2}\.$"), "red-0f.", "blue"),
    ("conbytes", conbytes(max_length=4), b"ab", "abcdefgh"),
    ("payment card", PaymentCardNumber, "4000000000000002", "4"),
    ("any", Any, {"a": [1]}, None),
    ("object", object, [1], None),
    ("none", type(None), None, 1),
    ("bool", bool, True, {}),
    ("pattern", typing.Pattern, "^a+$", 3),
    ("complex", complex, complex(1, 2), {}),
    ("validation error list", list[Union[Tree, Literal["stop"]]], ["stop", {"value": 1}], ["go"]),
    ("deep optional", Optional[list[Optional[dict[str, Optional[User]]]]], [None, {"a": None}], [1]),
]


def entry(name, kind, valid, invalid):
    mode, kind = kind if isinstance(kind, tuple) else ("validation", kind)
    adapter = TypeAdapter(kind)
    schema = adapter.json_schema(mode=mode)
    value = adapter.dump_python(adapter.validate_python(valid), mode="json", by_alias=True, exclude_unset=mode == "validation")
    checker = jsonschema.Draft202012Validator(schema)
    # What is written with a secret, say, is not what is read.
    out = {"name": name, "schema": schema}
    if checker.is_valid(value):
        out["valid"] = value
    if not checker.is_valid(invalid):
        out["invalid"] = invalid
    return out


def main():
    entries = [entry(*row) for row in TYPES]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    print(f'{{"made_by": "pydantic {pydantic.VERSION}", "types": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
