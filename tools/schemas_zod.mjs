// Schemas that zod 4's own z.toJSONSchema and zod 3's zod-to-json-schema make of the types in zod's documentation, each
// with a value that zod accepts and one that it does not: golden data for crates/lightglm-serve/tests/structured/schemas.rs. Version 1.
//
//   npm install zod@4 zod3@npm:zod@3 zod-to-json-schema
//   node schemas_zod.mjs FOLDER     writes FOLDER/zod4.json and FOLDER/zod3.json

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/package.json`);
const { z: z4 } = require("zod");
const { z: z3 } = require("zod3");
const { zodToJsonSchema } = require("zod-to-json-schema");
const version = (name) => JSON.parse(readFileSync(`${process.cwd()}/node_modules/${name}/package.json`)).version;

const UUID = "16fd2706-8baf-433b-82eb-8c7fada847da";

// Not of zod 3: a time of which its schema says that it has an offset, which its parser refuses; closed objects of which
// its schema says that they have another member.
const WRONG_IN_3 = ["time", "and of unions"];

// What both versions can say: name, type, a value that is accepted, one that is not.
function shared(z) {
  const category = z.object({ name: z.string() }).extend({ subcategories: z.lazy(() => category.array()) });
  const node = z.object({ value: z.number(), next: z.lazy(() => node.nullable()) });
  const literal = z.union([z.string(), z.number(), z.boolean(), z.null()]);
  const json = z.lazy(() => z.union([literal, z.array(json), z.record(z.string(), json)]));
  const user = z.object({ username: z.string(), email: z.string().email().optional() });
  const Fish = { Salmon: "salmon", Tuna: "tuna" };
  const Numeric = { A: 0, B: 1, 0: "A", 1: "B" };
  return [
    ["string lengths", z.string().min(5).max(9), "abcdef", "abc"],
    ["string of a length", z.string().length(5), "abcde", "abcd"],
    ["email", z.string().email(), "ann@example.com", "ann"],
    ["url", z.string().url(), "https://example.com/a?b=c", 3],
    ["uuid", z.string().uuid(), UUID, "16fd"],
    ["regex", z.string().regex(/^[a-z]+-\d{2,4}$/), "abc-123", "abc"],
    ["regex with a slash and a class", z.string().regex(/^\/v\d+\/[\w.-]+$/), "/v1/a.b-c", "v1"],
    ["regex without anchors", z.string().regex(/ab+c/), "xabbcx", "xyz"],
    ["regex that looks ahead", z.string().regex(/^(?=.*\d)(?=.*[a-z]).{8,}$/), "passw0rd", 7],
    ["regex that ignores case", z.string().regex(/^abc$/i), "abc", 7],
    ["regex that looks back", z.string().regex(/(?<!a)b(a)\1/), "baa", 7],
    ["regex of words", z.string().regex(/\bfoo\b/u), "a foo b", 7],
    ["includes", z.string().includes("mid"), "amidst", "abc"],
    ["starts with", z.string().startsWith("http(s)"), "http(s)://", "ftp"],
    ["ends with", z.string().endsWith(".com"), "a.com", "a.org"],
    ["date and time", z.string().datetime(), "2020-01-01T00:00:00Z", "yesterday"],
    ["date", z.string().date(), "2020-01-01", "2020-1-1"],
    ["time", z.string().time(), "00:00:00", 5],
    ["duration", z.string().duration(), "P3Y6M4DT12H30M5S", "3 years"],
    ["base64", z.string().base64(), "aGVsbG8=", 5],
    ["cuid2", z.string().cuid2(), "tz4a98xxat96iws9zmbrgj3a", 5],
    ["ulid", z.string().ulid(), "01ARZ3NDEKTSV4RRFFQ69G5FAV", 5],
    ["nanoid", z.string().nanoid(), "V1StGXR8_Z5jdHi6B-myT", 5],
    ["trimmed", z.string().trim().toLowerCase(), "abc", 5],
    ["emoji", z.string().emoji(), "😀", 5],
    ["numbers", z.number().gt(5).lte(10), 7.5, 5],
    ["integers", z.number().int().positive(), 3, 0],
    ["non-negative", z.number().nonnegative().finite(), 0, -1],
    ["multiple of", z.number().multipleOf(5), 15, 16],
    ["safe integers", z.number().int().safe(), 3, 1.5],
    ["boolean", z.boolean(), true, "true"],
    ["null", z.null(), null, 0],
    ["literal", z.literal("tuna"), "tuna", "cod"],
    ["enum", z.enum(["Salmon", "Tuna", "Trout"]), "Tuna", "Cod"],
    ["native enum of strings", z.nativeEnum(Fish), "tuna", "Tuna"],
    ["native enum of numbers", z.nativeEnum(Numeric), 1, 2],
    ["enum without one", z.enum(["a", "b", "c"]).exclude(["a"]), "b", "a"],
    ["optional", z.object({ a: z.string().optional(), b: z.number() }), { b: 1 }, { a: "x" }],
    ["nullable", z.string().nullable(), null, 5],
    ["nullable object", z.object({ a: z.number() }).nullable(), { a: 1 }, { a: "x" }],
    ["nullish", z.object({ a: z.string().nullish() }), { a: null }, { a: 5 }],
    ["default", z.object({ tuna: z.string().default("tuna"), n: z.number().default(7) }), { tuna: "a", n: 1 }, { tuna: 1, n: 1 }],
    ["catch", z.object({ n: z.number().catch(42) }), { n: 1 }, "x"],
    ["object", user, { username: "ann", email: "a@b.co" }, { email: "a@b.co" }],
    ["strict object", z.object({ name: z.string() }).strict(), { name: "a" }, { name: "a", x: 1 }],
    ["loose object", z.object({ name: z.string() }).passthrough(), { name: "a", x: 1 }, { x: 1 }],
    ["object with a catch-all", z.object({ name: z.string() }).catchall(z.number()), { name: "a", x: 1 }, { name: "a", x: "b" }],
    ["partial", user.partial(), {}, { username: 5 }],
    ["pick and omit", user.pick({ username: true }), { username: "a" }, {}],
    ["merged", user.merge(z.object({ id: z.string().uuid() })), { username: "a", id: UUID }, { username: "a" }],
    ["array", z.array(z.string()).min(1).max(3), ["a"], []],
    ["array of a length", z.string().array().length(2), ["a", "b"], ["a"]],
    ["non-empty array", z.array(z.number().int()).nonempty(), [1], [1.5]],
    ["tuple", z.tuple([z.string(), z.number(), z.object({ points: z.number() })]), ["a", 1, { points: 2 }], ["a", "b", { points: 2 }]],
    ["tuple with a rest", z.tuple([z.string()]).rest(z.number()), ["a", 1, 2], ["a", "b"]],
    ["union", z.union([z.string(), z.number()]), 5, true],
    ["union of objects", z.union([z.object({ a: z.string() }), z.object({ b: z.number() })]), { b: 1 }, 5],
    ["discriminated union", z.discriminatedUnion("status", [z.object({ status: z.literal("success"), data: z.string() }),
      z.object({ status: z.literal("failed"), error: z.string() })]), { status: "failed", error: "x" }, { status: "failed" }],
    ["record", z.record(z.string(), z.number()), { a: 1 }, { a: "x" }],
    ["record of constrained keys", z.record(z.string().min(2).regex(/^[a-z]+$/), z.boolean()), { ab: true }, { ab: 1 }],
    ["record of uuid keys", z.record(z.string().uuid(), z.object({ a: z.number() })), { [UUID]: { a: 1 } }, { [UUID]: 1 }],
    ["intersection", z.intersection(z.object({ name: z.string() }), z.object({ role: z.string() })), { name: "a", role: "b" }, { name: "a" }],
    ["and", z.object({ a: z.string() }).and(z.object({ b: z.number().optional() })), { a: "x" }, { b: 1 }],
    ["and of unions", z.union([z.object({ a: z.string() }), z.object({ b: z.string() })]).and(z.object({ c: z.number() })),
      { c: 1, b: "x" }, { b: "x" }],
    ["recursive", category, { name: "a", subcategories: [{ name: "b", subcategories: [] }] }, { name: "a" }],
    ["recursive and nullable", node, { value: 1, next: { value: 2, next: null } }, { value: 1, next: 5 }],
    ["json", json, { a: [1, "x", null, true] }],
    ["any and unknown", z.object({ a: z.any(), b: z.unknown() }), { a: 1, b: [2] }, 5],
    ["brand", z.object({ name: z.string() }).brand("Cat"), { name: "a" }, {}],
    ["readonly", z.object({ tags: z.array(z.string()).readonly() }).readonly(), { tags: ["a"] }, { tags: [1] }],
    ["refined", z.string().refine((value) => value.length <= 255), "abc", 5],
    ["described", z.object({ a: z.string().describe("An a") }).describe("It"), { a: "x" }, {}],
    ["used twice", z.object({ from: user, to: user }), { from: { username: "a" }, to: { username: "b" } }, { from: { username: "a" } }],
  ];
}

function only4(z) {
  const stringbool = z.object({ sort: z.templateLiteral(["by-", z.enum(["name", "date"])]) });
  const named = z.object({ id: z.string() }).meta({ id: "Named", title: "A name", examples: [{ id: "a" }], deprecated: true });
  const getters = z.object({
    name: z.string(),
    get children() {
      return z.array(getters);
    },
  });
  return [
    ["formats at the top", z.object({ a: z.email(), b: z.uuidv4(), c: z.ipv4(), d: z.ipv6(), e: z.cidrv4(), f: z.iso.date(), g: z.iso.datetime() }),
      { a: "a@b.co", b: UUID, c: "1.2.3.4", d: "2001:db8::1", e: "10.0.0.0/8", f: "2020-01-01", g: "2020-01-01T00:00:00Z" }, { a: 1 }],
    ["more formats", z.object({ a: z.base64url(), b: z.jwt(), c: z.e164(), d: z.iso.time(), e: z.iso.duration(), f: z.cuid() }),
      undefined, { a: 1 }],
    ["hostname and hex", z.object({ a: z.hostname(), b: z.hex(), c: z.hash("md5") }),
      { a: "example.com", b: "ff", c: "d41d8cd98f00b204e9800998ecf8427e" }, { a: 1 }],
    ["template literal", z.templateLiteral(["hello, ", z.string(), "!"]), "hello, you!", "bye"],
    ["template literal of numbers", z.templateLiteral([z.number(), z.enum(["px", "em", "%"])]), "12px", "12pt"],
    ["template literal inside", stringbool, { sort: "by-name" }, { sort: "by-x" }],
    ["literals", z.literal(["red", 1, null, true]), 1, "blue"],
    ["int", z.int(), 3, 1.5],
    ["int32", z.int32(), 3, 2 ** 40],
    ["float32", z.float32(), 1.5, "x"],
    ["partial record", z.partialRecord(z.enum(["a", "b"]), z.number()), { a: 1 }, { a: "x" }],
    ["record of an enum", z.record(z.enum(["id", "name"]), z.string()), { id: "1", name: "a" }, { id: 1, name: "a" }],
    ["record of literals", z.record(z.literal(["x", "y"]), z.number()), { x: 1, y: 2 }, { x: "a", y: 2 }],
    ["strict and loose", z.object({ a: z.strictObject({ b: z.number() }), c: z.looseObject({ d: z.number() }) }),
      { a: { b: 1 }, c: { d: 1, e: 2 } }, { a: { b: 1, x: 1 }, c: { d: 1 } }],
    ["with an id", z.object({ one: named, two: z.array(named) }), { one: { id: "a" }, two: [] }, { one: {}, two: [] }],
    ["recursive by getters", getters, { name: "a", children: [{ name: "b", children: [] }] }, { name: "a" }],
    ["prefault", z.object({ a: z.string().prefault("x") }), { a: "y" }, { a: 1 }],
    ["pipe", z.string().pipe(z.string().min(1)), "a", 5],
    ["nested discriminated union", z.discriminatedUnion("s", [z.object({ s: z.literal("ok") }),
      z.discriminatedUnion("code", [z.object({ s: z.literal("no"), code: z.literal(400) }), z.object({ s: z.literal("no"), code: z.literal(401) })])]),
      { s: "no", code: 401 }, { s: "no", code: 402 }],
    ["exclusive union", z.xor ? z.xor([z.string().min(3), z.string().max(5), z.number()]) : z.union([z.string(), z.number()]), 5, true],
    ["property", z.codec ? z.object({ a: z.iso.datetime({ offset: true }) }) : z.any(), { a: "2020-01-01T00:00:00+02:00" }, { a: 5 }],
  ];
}

function only3(z) {
  return [
    ["set", z.set(z.number()).min(1).max(3), undefined, undefined, [1, 2], ["a"]],
    ["map", z.map(z.string(), z.number()), undefined, undefined, [["a", 1]], [["a", "b"]]],
    ["date object", z.date(), undefined, undefined, "2020-01-01T00:00:00Z", 5],
    ["bigint", z.bigint(), undefined, undefined, 7, "x"],
    ["record of an enum", z.record(z.enum(["id", "name"]), z.string()), { id: "1" }, { id: 1 }],
    ["ip", z.string().ip(), "1.2.3.4", 5],
    ["ipv4", z.string().ip({ version: "v4" }), "1.2.3.4", "x"],
    ["deep partial", z.object({ a: z.object({ b: z.number() }) }).deepPartial(), { a: {} }, { a: { b: "x" } }],
    ["transformed", z.string().transform((value) => value.length), "abc", 5],
    ["preprocessed", z.preprocess((value) => value, z.string()), "abc", 5],
    ["undefined in a union", z.union([z.string(), z.undefined()]), "a", 5],
    ["promise", z.promise(z.string()), undefined, undefined, "a", 5],
  ];
}

function entries(rows, toSchema) {
  const out = [];
  for (const [name, type, valid, invalid, shownValid, shownInvalid] of rows) {
    const entry = { name, schema: toSchema(type) };
    if (valid !== undefined && !type.safeParse(valid).success) throw new Error(`${name} does not accept its value`);
    if (invalid !== undefined && type.safeParse(invalid).success && name !== "catch") throw new Error(`${name} accepts its counterexample`);
    if ((valid ?? shownValid) !== undefined) entry.valid = valid ?? shownValid;
    if (valid === null) entry.valid = null;
    if ((invalid ?? shownInvalid) !== undefined) entry.invalid = invalid ?? shownInvalid;
    out.push(entry);
  }
  return out;
}

function write(file, madeBy, types) {
  const lines = types.map((entry) => JSON.stringify(entry)).join(",\n");
  writeFileSync(file, `{"made_by": ${JSON.stringify(madeBy)}, "types": [\n${lines}\n]}\n`);
}

const folder = process.argv[2];
write(`${folder}/zod4.json`, `zod ${version("zod")}`, [
  ...entries([...shared(z4), ...only4(z4)], (type) => z4.toJSONSchema(type, { io: "input" })),
  ...entries([["draft 7, " + shared(z4)[43][0], shared(z4)[43][1]]], (type) => z4.toJSONSchema(type, { target: "draft-7" })),
]);
write(`${folder}/zod3.json`, `zod ${version("zod3")}, zod-to-json-schema ${version("zod-to-json-schema")}`, [
  ...entries([...shared(z3).filter(([name]) => !WRONG_IN_3.includes(name)), ...only3(z3)], (type) => zodToJsonSchema(type)),
  ...entries([["for OpenAPI, nullable", z3.object({ a: z3.string().nullable(), b: z3.enum(["x"]).nullable() }), { a: null, b: null }, { a: 5, b: "x" }]],
    (type) => zodToJsonSchema(type, { target: "openApi3" })),
  ...entries([["for OpenAI", z3.object({ a: z3.string().optional() })]], (type) => zodToJsonSchema(type, { target: "openAi" })),
  ...entries([["with definitions", shared(z3).find(([name]) => name === "used twice")[1]]],
    (type) => zodToJsonSchema(type, { name: "My/Type", definitionPath: "$defs" })),
]);
